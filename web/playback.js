// Runs on the simulator's page: how far virtual time has to have come, from the time that passes for the reader.

/** A page that was hidden, or a machine that was busy, does not make up for more than this. */
const LONGEST_FRAME_MS = 250;
/** When the faults are over, little happens until the end. */
const QUIET_TIMES_AS_FAST = 8;

/** Playing and its speed. It reads no clock: the times of frames come in. */
export class Playback {
  #isPlaying = false;
  #frameAt = NaN;
  /** Virtual seconds in a second, while faults happen. */
  speed = 1;

  get isPlaying() {
    return this.#isPlaying;
  }

  play() {
    this.#isPlaying = true;
    this.#frameAt = NaN;
  }

  pause() {
    this.#isPlaying = false;
  }

  /**
   * The virtual time to which the run has to go on now.
   * @param {number} nowMs of this frame
   * @param {number} seconds to which it has come
   * @param {boolean} isQuiet the faults are over
   */
  target(nowMs, seconds, isQuiet) {
    if (!this.#isPlaying) return seconds;
    // The first frame only says when playing began.
    const passedMs = Number.isNaN(this.#frameAt) ? 0 : nowMs - this.#frameAt;
    this.#frameAt = nowMs;
    const speed = this.speed * (isQuiet ? QUIET_TIMES_AS_FAST : 1);
    return seconds + (Math.min(Math.max(passedMs, 0), LONGEST_FRAME_MS) / 1000) * speed;
  }
}
