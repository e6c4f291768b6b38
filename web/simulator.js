// Runs on the simulator's page: lets the run of a seed pass, and shows it. The simulation is the wasm package; it needs
// no network and no worker, since a whole run takes less time than a picture.

/** @import { SimulatedEvent, SimulatedRun } from './types' */

import { byId, setShown, setText, tenths } from './dom.js';
import { Playback } from './playback.js';
import { linkTo, nextSeed, parseSeed, seedOfAddress } from './seed.js';
import { showBooks, showInvariants, showVolunteers } from './simulator-books.js';
import { drawPicture } from './simulator-picture.js';
import { addToLog, drawLegend, drawTimeline } from './simulator-timeline.js';
import { isGone, many, stateDetail, stateWord } from './simulator-words.js';
import init, { Simulation } from './simulator/simulator_wasm.js';

/** As the other package's: what the build names, and room for what wasm-bindgen adds. */
const INITIAL_PAGES = 80;
/** 256 MiB; a run of any seed needs a few. */
const MOST_PAGES = 4096;

/** The run that is shown. */
class Show {
  #playback = new Playback();
  /** @type {bigint} */
  #seed = 0n;
  /** @type {Simulation} */
  #simulation = new Simulation(0n);
  /** @type {SimulatedEvent[]} */
  #events = [];
  /** @type {SimulatedRun} */
  #run = this.#view();

  /** Begins the run of this seed. @param {bigint} seed @param {boolean} isPlaying */
  begin(seed, isPlaying) {
    this.#simulation.free();
    this.#simulation = new Simulation(seed);
    this.#seed = seed;
    this.#events = [];
    byId('log', HTMLElement).replaceChildren();
    byId('seed', HTMLInputElement).value = String(seed);
    byId('link', HTMLAnchorElement).href = linkTo(seed);
    this.#playback.pause();
    if (isPlaying) this.#playback.play();
    this.#show();
  }

  get seed() {
    return this.#seed;
  }

  /** @param {number} speed */
  setSpeed(speed) {
    this.#playback.speed = speed;
  }

  playOrPause() {
    if (this.#isOver()) {
      this.begin(this.#seed, true);
    } else if (this.#playback.isPlaying) {
      this.#playback.pause();
    } else {
      this.#playback.play();
    }
    this.#show();
  }

  step() {
    this.#playback.pause();
    this.#simulation.advanceToNextEntry();
    this.#show();
  }

  toEnd() {
    this.#playback.pause();
    this.#simulation.advanceTo(Number.MAX_VALUE);
    this.#show();
  }

  /** A picture is due. @param {number} nowMs */
  onFrame(nowMs) {
    if (!this.#playback.isPlaying) return;
    this.#simulation.advanceTo(this.#playback.target(nowMs, this.#run.seconds, this.#run.phase !== 'faults'));
    this.#show();
  }

  /** Draws again what is there: the page has another width. */
  redraw() {
    drawPicture(byId('picture', HTMLElement), this.#run);
    drawTimeline(byId('timeline', HTMLElement), this.#run, this.#events);
  }

  /** @returns {SimulatedRun} */
  #view() {
    return JSON.parse(this.#simulation.view());
  }

  #isOver() {
    return this.#run.phase === 'closed' || this.#run.phase === 'violated';
  }

  #show() {
    this.#run = this.#view();
    /** @type {SimulatedEvent[]} */
    const news = JSON.parse(this.#simulation.log(this.#events.length));
    this.#events.push(...news);
    addToLog(byId('log', HTMLElement), news);
    if (this.#isOver()) this.#playback.pause();
    const { isPlaying } = this.#playback;
    const run = this.#run;
    document.body.dataset.state = this.#isOver() ? run.phase : isPlaying ? 'playing' : 'paused';
    document.body.dataset.digest = run.digest;
    setText('seed-shown', `seed ${this.#seed}`);
    setText('state', stateWord(run, isPlaying));
    setText('state-detail', stateDetail(run));
    setText('seconds', `${tenths(run.seconds)} s`);
    setText('digest', run.digest);
    setText('play', isPlaying ? 'Pause' : this.#isOver() ? 'Again' : 'Play');
    const gone = run.volunteers.filter(({ state }) => isGone(state)).length;
    const goneText = `${many(gone, 'volunteer')} came and went; the table below has all.`;
    setText('picture-note', gone === 0 ? '' : goneText);
    showBooks(byId('books', HTMLElement), run);
    showInvariants(byId('invariants', HTMLElement), run);
    showVolunteers(byId('volunteers', HTMLElement), run);
    for (const id of ['step', 'to-end']) byId(id, HTMLButtonElement).disabled = this.#isOver();
    this.redraw();
  }
}

/** Shows the seed of the address. @param {Show} show @param {boolean} isPlaying */
function showAddress(show, isPlaying) {
  const seed = seedOfAddress(location.search);
  if (seed === null) {
    fail('The address names no seed: it has to be a whole number below 2 to the power of 64, as in ?seed=123.');
    return;
  }
  setShown('failure', false);
  show.begin(seed, isPlaying);
}

/** @param {Show} show @param {bigint} seed */
function goTo(show, seed) {
  history.pushState(null, '', linkTo(seed));
  showAddress(show, true);
}

/** @param {Show} show */
function listen(show) {
  const click = (/** @type {string} */ id, /** @type {() => void} */ act) =>
    byId(id, HTMLButtonElement).addEventListener('click', () => guarded(act));
  click('play', () => show.playOrPause());
  click('step', () => show.step());
  click('to-end', () => show.toEnd());
  click('next-seed', () => goTo(show, nextSeed(show.seed)));
  byId('choices', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    const input = byId('seed', HTMLInputElement);
    const seed = parseSeed(input.value);
    input.ariaInvalid = String(seed === null);
    if (seed === null) fail('A seed is a whole number from 0 to 18446744073709551615.');
    else guarded(() => goTo(show, seed));
  });
  const speed = byId('speed', HTMLSelectElement);
  speed.addEventListener('change', () => show.setSpeed(Number(speed.value)));
  addEventListener('popstate', () => guarded(() => showAddress(show, false)));
  new ResizeObserver(() => show.redraw()).observe(byId('picture', HTMLElement));
}

let hasFailed = false;

/**
 * An assertion of the simulated code that fails traps: nothing in its memory can be trusted then.
 * @param {() => void} act
 */
function guarded(act) {
  if (hasFailed) return;
  try {
    act();
  } catch (error) {
    hasFailed = true;
    document.body.dataset.state = 'failed';
    fail(`The simulated code has stopped: ${error}. Please report this page's address; reload it for another seed.`);
  }
}

/** @param {string} text */
function fail(text) {
  setText('failure', text);
  setShown('failure', true);
}

async function start() {
  if (!crossOriginIsolated) {
    document.body.dataset.state = 'failed';
    return fail('This browser gives the page no shared memory: open it over https, or on the machine of the server.');
  }
  const memory = new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum: MOST_PAGES, shared: true });
  try {
    await init({ module_or_path: new URL('./simulator/simulator_wasm_bg.wasm', import.meta.url), memory });
  } catch (error) {
    document.body.dataset.state = 'failed';
    return fail(`The simulator could not be started: ${error}`);
  }
  guarded(() => {
    const show = new Show();
    drawLegend(byId('legend', HTMLElement));
    listen(show);
    for (const id of ['play', 'step', 'to-end']) byId(id, HTMLButtonElement).disabled = false;
    showAddress(show, !matchMedia('(prefers-reduced-motion: reduce)').matches);
    const onFrame = (/** @type {number} */ nowMs) => {
      guarded(() => show.onFrame(nowMs));
      requestAnimationFrame(onFrame);
    };
    requestAnimationFrame(onFrame);
  });
}

await start();
