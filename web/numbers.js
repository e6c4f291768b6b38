// Runs on the page: shows what the server and the BSP worker report, in numbers.

import { byId, bytes, duration, loss, percent, rate, setNumber, setShown, setText, tenths, whole } from './dom.js';

/** @import { Codec, Mode, Progress, Run, Status, VolunteerReport } from './types' */

const RUN_STATES = {
  waiting: 'waiting for volunteers',
  training: 'training',
  finished: 'finished',
  diverged: 'stopped, because it has diverged',
};

/** @type {Record<Mode, string>} */
const MODES = {
  decoupled: 'decoupled: nobody waits',
  lockstep: 'lockstep: everybody waits for the slowest',
  asynchronous: 'asynchronous: each waits for the server',
};

/** @type {Record<Mode, string>} */
const WAITING = {
  decoupled:
    'Your cores never wait for that, and neither does anybody else’s: ' +
    'the sum is read out once in each read-out period while they go on, ' +
    'and the server waits for sums that are about to arrive no longer than the grace window.',
  lockstep:
    'This run is a comparison, in lockstep: after each gradient your cores wait until the others’ have come ' +
    'and the new model is back.',
  asynchronous:
    'This run is a comparison, an asynchronous one: after each gradient your cores wait until the new model is back, ' +
    'though not for anybody else.',
};

/** What one holds. @type {Record<Mode, (run: Run) => string>} */
const SUPERSTEPS = {
  decoupled: (run) => `about ${whole(run.superstep_samples)} samples`,
  lockstep: () => 'a minibatch from each core',
  asynchronous: () => 'what one tab has computed',
};

/** @type {Record<Codec, string>} */
const CODECS = {
  f32: 'f32, as it is',
  f16: 'f16, half of f32',
  int8: 'int8, a quarter of f32',
  top_k: 'the largest thirty-second',
};

/** @param {Run} run @param {Status} status */
export function showRun(run, status) {
  setText('run-name', run.name);
  setText('run-description', run.description);
  const { kind, samples, test_samples, shape } = run.dataset;
  setShown('accuracy-card', run.model.loss !== 'mean_squared_error');
  setText('accuracy-of', kind === 'text' ? 'of held-out characters foreseen' : 'of held-out samples right');
  /** @type {[string, string][]} */
  const facts = [
    ['Training samples', whole(samples)],
    ['Held-out samples', whole(test_samples)],
    ['Shape of a sample', shape.join(' × ')],
    ['Parameters', whole(run.parameters)],
    ['Minibatch', `${whole(run.minibatch)} samples`],
    ['Superstep', SUPERSTEPS[run.mode]?.(run) ?? ''],
    ['Mode', MODES[run.mode] ?? run.mode],
    ['Local steps', status.local_steps ? 'yes' : 'no'],
    ['Sums are sent as', CODECS[status.contribution_codec] ?? status.contribution_codec],
    ['Models are sent as', CODECS[status.model_codec] ?? status.model_codec],
    ['Run', run.run],
  ];
  setText('waiting', WAITING[run.mode] ?? '');
  setShown('local-steps', status.local_steps);
  byId('run-facts', HTMLDListElement).replaceChildren(
    ...facts.map(([name, value]) => {
      const fact = document.createElement('div');
      fact.append(textElement('dt', name), textElement('dd', value));
      return fact;
    }),
  );
}

/** @param {Status} status */
export function showStatus(status) {
  // Where cores wait for models there is no period, and nothing that follows from one.
  const hasPeriod = status.mode === 'decoupled';
  for (const id of ['period-figure', 'grace-figure', 'my-link']) setShown(id, hasPeriod);
  setNumber('period', status.period_seconds, duration);
  setNumber('grace', status.grace_seconds, duration);
  const traffic = status.bytes_up + status.bytes_down;
  setNumber('bytes-per-sample', status.samples > 0 ? traffic / status.samples : null, bytes);
  showRunState(status.state, status.reason);
  setNumber('everyone-rate', status.samples_per_second, rate);
  setNumber('volunteers', status.volunteers);
  setNumber('ml-modules', status.ml_modules);
  setNumber('samples', status.samples);
  setNumber('version', status.version);
  setNumber('loss', status.loss, loss);
  setNumber('accuracy', status.eval?.accuracy, percent);
  showTarget(status);
}

/** @param {Status['state']} state @param {string | null} [reason] */
export function showRunState(state, reason) {
  const words = RUN_STATES[state] ?? state;
  setText('run-state', reason ? `${words}: ${reason}` : words);
}

/** How far the last evaluation is from what the run aims at. @param {Status} status */
function showTarget({ eval: evaluated, target_accuracy: accuracy, target_loss: aim }) {
  setShown('target-row', accuracy !== null);
  setShown('target-loss-row', aim !== null);
  if (accuracy !== null) {
    const now = evaluated?.accuracy ?? 0;
    const bar = byId('target', HTMLProgressElement);
    bar.max = accuracy;
    bar.value = Math.min(now, accuracy);
    const aimed = percent(accuracy);
    const way = `Target ${aimed}: ${percent(now / accuracy)} of the way`;
    setText('target-text', now >= accuracy ? `The target of ${aimed} is reached.` : way);
  }
  if (aim !== null) {
    const now = evaluated?.loss;
    const isReached = now !== undefined && now <= aim;
    const held = now === undefined ? '' : `, now ${loss(now)}`;
    const reached = `The target of ${loss(aim)} on held-out samples is reached.`;
    setText('target-loss-text', isReached ? reached : `Target ${loss(aim)} on held-out samples${held}`);
  }
}

/** What this tab has done, over all starts of its workers: each counts from zero. */
export class MyNumbers {
  #session = '';
  /** The last start of which anything was heard. */
  #start = 0;
  /** By the number of their start. @type {Map<number, number>} */
  #samples = new Map();
  /** The same. @type {Map<number, number>} */
  #accepted = new Map();

  /** @param {Progress} progress @param {number} start the number of the start that it is of */
  show(progress, start) {
    this.#samples.set(start, progress.samples);
    setNumber('my-samples', sum(this.#samples));
    this.showAccepted(progress.accepted, start);
    // An earlier one that is leaving is still counted.
    if (start < this.#start) return;
    this.#start = start;
    this.#session = progress.session;
    setNumber('my-rate', progress.samplesPerSecond, rate);
    // The tab has room for as many as there are cores; only those that were started are its ML modules.
    const started = progress.mlModules.filter(({ steps }) => steps > 0);
    setNumber('my-modules', started.length);
    byId('modules', HTMLTableSectionElement).replaceChildren(...started.map(moduleRow));
  }

  /** @param {number} accepted samples that the server has said are accepted @param {number} start of this one */
  showAccepted(accepted, start) {
    this.#accepted.set(start, accepted);
    setNumber('my-accepted', sum(this.#accepted));
  }

  /** The number under which the server knows this tab; empty before there is one. */
  get session() {
    return this.#session;
  }

  /** @param {VolunteerReport | undefined} report what the server says of this tab, if it is connected */
  showReport(report) {
    setNumber('my-period', report?.period_seconds, duration);
    // A link that is too slow for the longest period is busy all the time, not longer.
    setNumber('my-link-share', report?.link_share, (share) => percent(Math.min(share, 1)));
  }

  /** No ML module is left in this tab; what was done stays counted. */
  showNobodyAtWork() {
    if (this.#session === '') return;
    setNumber('my-rate', 0, rate);
    setNumber('my-modules', 0);
    this.showReport(undefined);
    byId('modules', HTMLTableSectionElement).replaceChildren();
  }
}

/** @param {Map<number, number>} numbers */
const sum = (numbers) => [...numbers.values()].reduce((total, number) => total + number, 0);

/** @param {Progress['mlModules'][number]} mlModule @param {number} index */
function moduleRow(mlModule, index) {
  const { gradient, add, read, wait } = mlModule.time;
  const row = document.createElement('tr');
  const name = textElement('th', String(index + 1));
  name.setAttribute('scope', 'row');
  const samples = textElement('td', whole(mlModule.samples));
  samples.dataset.value = String(mlModule.samples);
  const shares = [gradient, add, read, wait].map((share) => textElement('td', tenths(100 * share)));
  row.append(name, samples, ...shares);
  return row;
}

/** @param {string} name @param {string} text */
function textElement(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
