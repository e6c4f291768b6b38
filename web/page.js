// Runs on the page: wires the controls, this tab as a volunteer, the server's reports and the curves together.

import { Charts } from './charts.js';
import { Controls, isAtWork, isComputingIn } from './controls.js';
import { byId, setShown, setText } from './dom.js';
import { MyNumbers, showRun, showRunState, showStatus } from './numbers.js';
import { ServerWatch } from './status.js';
import { findMissing } from './support.js';
import { Volunteer } from './volunteer.js';

/** @import { Missing } from './support.js' */
/** @import { Run, TabState, Target } from './types' */

/** A mistyped link must not start hundreds of workers. */
const MOST_WORKERS = 64;

const wish = joinWish(new URLSearchParams(location.search));
const cores = Math.max(navigator.hardwareConcurrency || 1, wish?.workers ?? 1);
const missing = findMissing();
const myNumbers = new MyNumbers();

/** @type {TabState} */
let tabState = missing.length > 0 ? 'unsupported' : 'not-contributing';
let tabDetail = '';
let isRunFinished = false;
let isServerReachable = true;
/** @type {Target} */
let target = { accuracy: null, loss: null };
/** The visitor has pressed Stop: neither a link nor a new run joins this tab again. */
let hasDeclined = false;

const volunteer = new Volunteer({
  capacity: cores,
  onState(state, detail) {
    // The end of the run is known until the server says otherwise: there may be another run at this address tomorrow.
    if (state === 'finished') {
      isRunFinished = true;
      showRunState('finished');
    }
    tabState = state === 'finished' ? 'not-contributing' : state;
    tabDetail = detail;
    // Its link is there again, so the notice that the server does not answer is old.
    if (state === 'training' && !isServerReachable) server.askNow();
    if (!isAtWork(tabState)) myNumbers.showNobodyAtWork();
    showState();
  },
  onProgress: (progress, start) => myNumbers.show(progress, start),
  onAccepted: (accepted, start) => myNumbers.showAccepted(accepted, start),
});

const controls = new Controls({
  cores,
  // One core is left for everything else on the machine.
  chosen: wish?.workers ?? Math.max(cores - 1, 1),
  cpuPercent: wish?.cpuPercent ?? 100,
  onStart() {
    setShown('note', false);
    volunteer.join(controls.workers, controls.cpuPercent);
  },
  onPauseOrResume() {
    if (volunteer.isPauseWanted) volunteer.resume();
    else volunteer.pause();
    showState();
  },
  onStop() {
    hasDeclined = true;
    volunteer.leave();
  },
  onCores: (workers) => volunteer.setWorkers(workers),
  onCpuPercent: (cpuPercent) => volunteer.setCpuPercent(cpuPercent),
});

document.body.dataset.isolated = String(window.crossOriginIsolated === true);
showMissing(missing);
showState();

const charts = new Charts(byId('loss-chart', HTMLElement), byId('accuracy-chart', HTMLElement));
const server = new ServerWatch({
  onStatus(status, run) {
    target = { accuracy: status.target_accuracy, loss: status.target_loss };
    isRunFinished = status.state === 'finished';
    if (run !== undefined) {
      showRun(run, status);
      charts.showRun(run);
      joinIfWished(run);
    }
    showStatus(status);
    // Nobody's cores are kept busy for a model that takes no more steps.
    if (isRunFinished && isAtWork(tabState)) volunteer.leave();
    else showState();
  },
  onHistory: (history) => charts.show(history, target),
  session: () => (isAtWork(tabState) ? myNumbers.session : ''),
  onReport: (report) => myNumbers.showReport(report),
  onReachable(isReachable) {
    isServerReachable = isReachable;
    document.body.dataset.server = isReachable ? 'reachable' : 'unreachable';
    showReachable();
  },
});
server.watch();

// A tab that is shown again after all goes on by itself.
window.addEventListener('pagehide', () => volunteer.closing());
// A worker of a page that was frozen may sleep on until something is said to it.
document.addEventListener('resume', () => volunteer.thawed());

function showState() {
  const isIdle = tabState === 'not-contributing';
  controls.show(isRunFinished && isIdle ? 'finished' : tabState, tabDetail, volunteer.isPauseWanted);
  showReachable();
}

/**
 * `/?join=1&workers=2&cpu_percent=50` asks to join without a click, with two ML modules that compute half of the time.
 * @param {URLSearchParams} query
 * @returns {{ workers: number, cpuPercent: number } | null}
 */
function joinWish(query) {
  if (query.get('join') !== '1') return null;
  const number = (/** @type {string} */ name, /** @type {number} */ otherwise, /** @type {number} */ most) => {
    const asked = Math.floor(Number(query.get(name) ?? otherwise));
    return Number.isNaN(asked) ? otherwise : Math.min(Math.max(asked, 1), most);
  };
  return { workers: number('workers', 1, MOST_WORKERS), cpuPercent: number('cpu_percent', 100, 100) };
}

/** Nobody's machine computes without their click, except where the operator said so. @param {Run} run */
function joinIfWished(run) {
  if (wish === null || hasDeclined || isRunFinished || tabState !== 'not-contributing') return;
  if (run.kiosk) {
    volunteer.join(wish.workers, wish.cpuPercent);
  } else {
    const asked = 'The link asked to start by itself. This server does not allow that, ';
    setText('note', `${asked}so nothing runs until you press the button.`);
    setShown('note', true);
  }
}

function showReachable() {
  if (!isServerReachable && isRunFinished) {
    setText('unreachable', 'The run has finished, and its server has gone: these are its last numbers.');
  } else if (!isServerReachable && tabState === 'restarting') {
    setText('unreachable', 'The server does not answer. The page keeps trying; nothing is computed meanwhile.');
  } else if (!isServerReachable) {
    const isComputing = isComputingIn(tabState) && !volunteer.isPauseWanted;
    const meanwhile = isComputing ? ' Your cores go on meanwhile; what they finish is sent afterwards.' : '';
    setText('unreachable', `The server does not answer, so the numbers are old. The page keeps trying.${meanwhile}`);
  }
  setShown('unreachable', !isServerReachable);
}

/** @param {Missing[]} reasons */
function showMissing(reasons) {
  setShown('unsupported', reasons.length > 0);
  byId('missing', HTMLUListElement).replaceChildren(
    ...reasons.map(({ what, hint }) => {
      const item = document.createElement('li');
      const strong = document.createElement('strong');
      strong.textContent = what;
      item.append(strong, ` ${hint}`);
      return item;
    }),
  );
}
