// Runs on the page: how long this tab was away, in words.

import { whole } from './dom.js';

/** @import { Told } from './types' */

/**
 * Says how long the tab was away, and what became of the work that it had kept; nothing where it was not away.
 * @param {Told} told
 */
export function sayReturn({ awaySeconds, keptSamples, acceptedSamples, areSent }) {
  if (!awaySeconds) return '';
  const back = `Back after ${inWords(awaySeconds)}`;
  if (keptSamples === 0) return `${back}.`;
  const kept = `${back}: ${whole(keptSamples)} samples were kept`;
  if (!areSent) return `${kept}, and are being sent.`;
  if (acceptedSamples >= keptSamples) return `${kept} and sent.`;
  const accepted = acceptedSamples === 0 ? 'none' : whole(acceptedSamples);
  return `${kept} and sent; the server accepted ${accepted} of them.`;
}

/** The two largest units are exact enough: 3 min, 1 h 5 min. @param {number} seconds */
function inWords(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  if (hours > 0) return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  const rest = seconds % 60;
  if (minutes > 0) return rest > 0 && minutes < 10 ? `${minutes} min ${rest} s` : `${minutes} min`;
  return `${rest} s`;
}
