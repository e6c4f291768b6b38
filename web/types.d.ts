// What the page is told and what it tells: the server's JSON, and the messages between page and workers.
// The page checks none of it at run time; both sides are ours and are served together.

/** Whether computing waits for synchronising: never, for everybody, or for the server. */
export type Mode = 'decoupled' | 'lockstep' | 'asynchronous';

/** How what travels is encoded. */
export type Codec = 'f32' | 'f16' | 'int8' | 'top_k';

/** `GET /api/v1/run`: what does not change while a run lasts. */
export interface Run {
  run: string;
  name: string;
  description: string;
  mode: Mode;
  parameters: number;
  minibatch: number;
  superstep_samples: number;
  /** The operator allows `/?join=1` to start without a click. */
  kiosk: boolean;
  model: { loss: 'softmax_cross_entropy' | 'mean_squared_error' | 'binary_cross_entropy' };
  dataset: { kind: 'bytes' | 'text' | 'table'; samples: number; test_samples: number; shape: number[] };
  /** What a tab asks its browser for. */
  memory: { tab_bytes: number; ml_module_bytes: number };
}

/** `GET /api/v1/status`: where the run stands now. */
export interface Status {
  run: string;
  mode: Mode;
  state: 'waiting' | 'training' | 'finished' | 'diverged';
  version: number;
  superstep: number;
  /** Samples that everybody together has contributed. */
  samples: number;
  /** Those that the current model has learned from; the others are in the open superstep. */
  samples_in_model: number;
  gradients: number;
  /** Mean training loss per sample of the last superstep. */
  loss: number | null;
  /** The last evaluation on the held-out samples. */
  eval: { version: number; accuracy: number | null; loss: number } | null;
  volunteers: number;
  ml_modules: number;
  samples_per_second: number;
  contributions_accepted: number;
  contributions_refused: number;
  /** What the run aims at: a share of right answers from 0 to 1, or a loss, or neither. */
  target_accuracy: number | null;
  target_loss: number | null;
  elapsed_seconds: number;
  /** The read-out period; a volunteer whose link is slow has a longer one of its own. In lockstep and asynchronously it rules nothing. */
  period_seconds: number;
  /** How long a superstep waits at most, after its quorum, for an arrival that is predicted; 0 but where the run is decoupled. */
  grace_seconds: number;
  /** The share of the expected samples with which a superstep may close. */
  quorum: number;
  /** Mean staleness of all samples in the model, in versions, and their mean weight by it, from 0 to 1. */
  staleness: number;
  weight: number | null;
  /** Whether ML modules also move along their own gradients. */
  local_steps: boolean;
  contribution_codec: Codec;
  model_codec: Codec;
  /** Bytes of all frames from volunteers and to them; the training data travels otherwise. */
  bytes_up: number;
  bytes_down: number;
}

/** One of `GET /api/v1/volunteers`; with `?id=` and its session, the list holds it alone, or nobody while it is not connected. */
export interface VolunteerReport {
  id: number;
  ml_modules: number;
  is_paused: boolean;
  samples: number;
  samples_per_second: number;
  staleness: number;
  /** Shares of its ML modules' time, from 0 to 1. */
  time: { gradient: number; add: number; read: number; wait: number };
  /** The time that they have spent on gradients, without rests and waiting. */
  computing_seconds: number;
  /** Its own read-out period. */
  period_seconds: number;
  /** What a contribution takes until it is settled, and a model until it is stored, each beyond the round trip. */
  upload_seconds: number;
  download_seconds: number;
  round_trip_seconds: number;
  /** The share of its period in which its link is busy with both; null before it is known. */
  link_share: number | null;
  accepted: number;
  refused: number;
  not_finite: number;
  discarded: number;
  last_seen_seconds: number;
}

/** Held-out answers to count as right or wrong come with an accuracy; numbers have a loss only. */
export type Target = { accuracy: number | null; loss: number | null };

/** `GET /api/v1/history`: the curves, a few hundred points each, in the order in which they came about. */
export interface History {
  loss: { samples: number; elapsed_seconds: number; loss: number }[];
  eval: { samples: number; elapsed_seconds: number; version: number; accuracy: number | null; loss: number }[];
}

/**
 * From the page to the BSP worker. `workers` is how many ML modules are active, `capacity` how many there can be; each computes for
 * `dutyPercent` of its time, a whole number from 1 to 100.
 */
export type ToBspWorker =
  | { type: 'join'; workers: number; capacity: number; dutyPercent: number }
  | { type: 'workers'; workers: number }
  | { type: 'duty'; dutyPercent: number }
  | { type: 'pause' }
  | { type: 'resume' }
  | { type: 'leave' }
  | { type: 'died'; mlModule: number; message: string };

/** What the BSP worker says it is doing. */
export type BspState =
  | 'connecting'
  | 'training'
  | 'paused'
  | 'reconnecting'
  | 'refused'
  | 'restarting'
  | 'failed'
  | 'finished';

/** How much this tab has done in the present session. */
export interface Progress {
  type: 'progress';
  session: string;
  samples: number;
  accepted: number;
  samplesPerSecond: number;
  version: number;
  /** `time` holds shares of the ML module's time without its rests, from 0 to 1. */
  mlModules: { samples: number; steps: number; time: { gradient: number; add: number; read: number; wait: number } }[];
}

/** From the BSP worker to the page. `start` is for the new ML worker; the page does not look into it. */
export type FromBspWorker =
  | { type: 'spawn'; mlModule: number; start: unknown }
  | { type: 'state'; state: BspState; detail?: string; delayMs?: number }
  | Progress;

/** From an ML worker to the page; it says nothing else, since it never returns to its event loop. */
export type FromMlWorker = { type: 'error'; message: string };

/** What this tab does, in one word; `document.body.dataset.state` has it too. */
export type TabState = BspState | 'unsupported' | 'not-contributing';
