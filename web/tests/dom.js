// For tests of the page's modules: as much of a document as they touch, with the elements that index.html has.

import { readFileSync } from 'node:fs';

class HTMLElement {
  dataset = {};
  hidden = false;
  disabled = false;
  textContent = '';
  value = '';
  max = '';
  ariaValueText = '';
  children = [];
  attributes = {};
  #listeners = new Map();

  addEventListener(type, listener) {
    this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), listener]);
  }

  /** As a visitor does. */
  fire(type) {
    for (const listener of this.#listeners.get(type) ?? []) listener({ type });
  }

  append(...children) {
    this.children.push(...children);
  }

  replaceChildren(...children) {
    this.children = children;
  }

  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  focus() {
    document.activeElement = this;
  }

  /** What a reader sees in it. */
  get text() {
    return [this.textContent, ...this.children.map((child) => child.text)].filter((text) => text !== '').join(' ');
  }
}
class HTMLButtonElement extends HTMLElement {}
class HTMLInputElement extends HTMLElement {
  get valueAsNumber() {
    return Number(this.value);
  }
}
class HTMLSelectElement extends HTMLElement {
  options = ['100', '75', '50', '25', '10'].map((value) => ({ value }));

  add(option, before) {
    const place = before === null ? this.options.length : this.options.indexOf(before);
    this.options.splice(place, 0, option);
  }
}
class HTMLDListElement extends HTMLElement {}
class HTMLProgressElement extends HTMLElement {}
class HTMLTableSectionElement extends HTMLElement {}
class HTMLUListElement extends HTMLElement {}

const KINDS = {
  button: HTMLButtonElement,
  input: HTMLInputElement,
  select: HTMLSelectElement,
  dl: HTMLDListElement,
  progress: HTMLProgressElement,
  tbody: HTMLTableSectionElement,
  ul: HTMLUListElement,
};
const HTML = readFileSync(new URL('../index.html', import.meta.url), 'utf8');

/** Puts a fresh document into the global scope, and gives a function that finds elements by their id. */
export function installDom() {
  const elements = new Map();
  for (const [, tag, id] of HTML.matchAll(/<(\w+)[^>]*?\bid="([^"]+)"/g)) {
    elements.set(id, new (KINDS[tag] ?? HTMLElement)());
  }
  const document = {
    body: new HTMLElement(),
    title: '',
    hidden: false,
    activeElement: null,
    getElementById: (id) => elements.get(id) ?? null,
    createElement: () => new HTMLElement(),
  };
  class Option {
    constructor(text, value) {
      Object.assign(this, { text, value });
    }
  }
  Object.assign(globalThis, {
    document,
    Option,
    HTMLElement,
    HTMLButtonElement,
    HTMLInputElement,
    HTMLSelectElement,
    HTMLDListElement,
    HTMLProgressElement,
    HTMLTableSectionElement,
    HTMLUListElement,
  });
  return (id) => elements.get(id);
}
