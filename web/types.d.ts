// What the page is told and what it tells: the server's JSON, and the messages between page and workers.
// Written from the Rust types by a test, server/src/page_types.rs, which also says how to write it anew.
// The page checks none of it at run time; both sides are ours and are served together.

/** Whether computing waits for synchronising. */
export type Mode = 'decoupled' | 'lockstep' | 'asynchronous';

/** How what travels is encoded. */
export type Codec = 'f32' | 'f16' | 'int8' | 'top_k';

/** What training makes small. */
export type Loss = 'softmax_cross_entropy' | 'mean_squared_error' | 'binary_cross_entropy';

/** What a sample's bytes mean: as much of it as the page looks at. */
export type SampleFormat = { kind: 'bytes' | 'text' | 'table'; shape: number[] };

/** What does not change while a run lasts. */
export type Run = {
  /** The protocol that the server speaks; see [`bsp::protocol::message::PROTOCOL`]. */
  protocol: number;
  /** The run's number. */
  run: string;
  /** The hash of the model spec. */
  spec_hash: string;
  /** The run's name. */
  name: string;
  /** What it is about, in a sentence. */
  description: string;
  /** Decoupled, or one of the baselines. */
  mode: Mode;
  /** How ML modules move along their own gradients between read-outs, if they do. */
  local_steps: object | null;
  /** The seed of initialisation and of all minibatches. */
  seed: string;
  /** Samples of one gradient. */
  minibatch: number;
  /** Samples that a superstep aims at. */
  superstep_samples: number;
  /** Samples of one contribution beyond this number weigh nothing. */
  max_read_out_samples: number;
  /** The share of held-out samples to answer rightly, from 0 to 1, if that is the run's aim. */
  target_accuracy: number | null;
  /** The mean loss of held-out samples to come down to, if that is. */
  target_loss: number | null;
  /** Whether the operator allows `/?join=1` to start without a click. */
  kiosk: boolean;
  /** The model's parameters. */
  parameters: number;
  /** The model. */
  model: {
    loss: Loss;
  };
  /** The samples. */
  dataset: Dataset & SampleFormat;
  /** What a tab needs. */
  memory: MemoryNeed;
};

/** The samples of a run. */
export type Dataset = {
  /** Samples to train on. */
  samples: number;
  /** Samples held out to evaluate on. */
  test_samples: number;
  /** The shards, by the names under which they are served. */
  shards: Array<string>;
};

/** The memory that a tab needs, so that it asks its browser for no more. */
export type MemoryNeed = {
  /** For what a tab has once: code and its data, samples, model slots, frames. */
  tab_bytes: number;
  /** For each ML module. */
  ml_module_bytes: number;
};

/** `GET /api/v1/status`: where the run stands now. */
export type Status = {
  run: string;
  mode: Mode;
  state: RunState;
  /** Why it has diverged, and what helps; none of a run that has not. */
  reason: string | null;
  version: number;
  superstep: number;
  /** Samples of all accepted contributions. */
  samples: number;
  /** Those of closed supersteps. */
  samples_in_model: number;
  gradients: number;
  loss: number | null;
  eval: {
    version: number;
    accuracy: number | null;
    loss: number;
  } | null;
  volunteers: number;
  ml_modules: number;
  samples_per_second: number;
  contributions_accepted: number;
  contributions_refused: number;
  /** How often a server has begun with this run. */
  incarnation: number;
  /** Contributions that came again because a link or a server was lost: those that were settled now, … */
  contributions_resent: number;
  /** … and those that were settled before, and are not counted twice. */
  duplicates_refused: number;
  /** Accepted samples that no model holds, and none will. */
  samples_lost: number;
  /** Why; nothing as long as none is lost. */
  samples_lost_because: Array<string>;
  /** Samples that were accepted before the last restart, that no checkpoint held, and that may still come again. */
  samples_awaited: number;
  /** Checkpoints that this server has written. */
  checkpoints: number;
  /** The time since the last of them; none before the first. */
  last_checkpoint_seconds: number | null;
  /** How long it took to write, and its bytes. */
  checkpoint_took_seconds: number;
  checkpoint_bytes: number;
  /** The last checkpoint could not be written: what comes is not durable. */
  checkpoint_fails: boolean;
  target_accuracy: number | null;
  target_loss: number | null;
  /** Time trained, over all servers that have run it. */
  elapsed_seconds: number;
  /** The read-out period. A volunteer whose link is slow has a longer one of its own. */
  period_seconds: number;
  /** How long a superstep waits at most, after its quorum, for an arrival that is predicted; 0 in the baselines. */
  grace_seconds: number;
  /** The share of the expected samples with which a superstep may close, from 0 to 1. */
  quorum: number;
  /** Mean staleness of all accepted samples, in versions. */
  staleness: number;
  /** Mean weight by staleness of all accepted samples, from 0 to 1; none before the first. */
  weight: number | null;
  /** Whether ML modules also move along their own gradients. */
  local_steps: boolean;
  contribution_codec: Codec;
  model_codec: Codec;
  /** Bytes of all frames that came from volunteers … */
  bytes_up: number;
  /** … and that went to them. Training data travels otherwise. */
  bytes_down: number;
};

/** What a run is doing. */
export type RunState = 'waiting'
  | 'training'
  | 'finished'
  | 'diverged';

/** One entry of `GET /api/v1/volunteers`. */
export type VolunteerReport = {
  id: number;
  ml_modules: number;
  is_paused: boolean;
  samples: number;
  samples_per_second: number;
  staleness: number;
  time: TimeShares;
  /** The time that its ML modules have spent on gradients, summed over them: without rests, and without waiting. */
  computing_seconds: number;
  /** Its own read-out period. */
  period_seconds: number;
  /** From sending a contribution to its acknowledgement, beyond the round trip: the shortest of the last few. */
  upload_seconds: number;
  /** From sending a model to its being stored, beyond the round trip: the shortest of the last few. */
  download_seconds: number;
  round_trip_seconds: number;
  /** The share of its period in which its link is busy with both; none before it is known. */
  link_share: number | null;
  accepted: number;
  refused: number;
  not_finite: number;
  discarded: number;
  last_seen_seconds: number;
};

/** Shares of the time of one or more ML modules, from 0 to 1. */
export type TimeShares = {
  /** Computing gradients. */
  gradient: number;
  /** Adding them to the aggregate. */
  add: number;
  /** Reading models. */
  read: number;
  /** Waiting for models or samples. */
  wait: number;
};

/** Both curves over the whole run, each in the order of its points: the line that the current model comes from. */
export type History = {
  loss: Array<LossPoint>;
  eval: Array<EvaluationPoint>;
  /** Restarts, changed settings, divergences. */
  events: Array<HistoryEvent>;
};

/** The loss of the training samples over the run. */
export type LossPoint = {
  /** Samples that all volunteers had contributed by then. */
  samples: number;
  /** Seconds since the run began, without those in which no server ran. */
  elapsed_seconds: number;
  /** Mean loss of a sample. */
  loss: number;
};

/** One evaluation on the held-out samples. */
export type EvaluationPoint = {
  /** Samples in the model that was evaluated. */
  samples: number;
  /**
   * Seconds from the beginning of the run to the moment at which that model was current, without those in which no
   * server ran.
   */
  elapsed_seconds: number;
  /** The model's version. */
  version: number;
  /** The share of held-out samples that it answers rightly, from 0 to 1; `None` where answers are numbers. */
  accuracy: number | null;
  /** Mean loss of a held-out sample. */
  loss: number;
};

/** Something that happened to the run, as a mark on its curves. */
export type HistoryEvent = {
  kind: EventKind;
  /** Samples in the model that the run went on with. */
  samples: number;
  /** Seconds since the run began, without those in which no server ran. */
  elapsed_seconds: number;
  /** In words. */
  detail: string;
};

/** What an event is about. */
export type EventKind = 'begin'
  | 'restart'
  | 'joined'
  | 'left'
  | 'refused'
  | 'checkpoint'
  | 'settings'
  | 'diverged';

/** From the page to the BSP worker. */
export type ToBspWorker = {
  type: 'join';
} & Join
  | {
    type: 'workers';
    /** How many. */
    workers: number;
  }
  | {
    type: 'cpuPercent';
    /** A whole number from 1 to 100. */
    cpuPercent: number;
  }
  | {
    type: 'pause';
  }
  | {
    type: 'resume';
  }
  | {
    type: 'closing';
  }
  | {
    type: 'thawed';
  }
  | {
    type: 'leave';
  }
  | {
    type: 'died';
    /** The number of its ML module. */
    mlModule: number;
    /** What the event said. */
    message: string;
  };

/** With what a tab starts. */
export type Join = {
  /** How many ML modules compute. */
  workers: number;
  /** How many there can be at the most. */
  capacity: number;
  /** For how much of its time each of them computes, a whole number from 1 to 100. */
  cpuPercent: number;
  /** Whether none of them computes yet. */
  isPaused: boolean;
  /** How many starts before this one, in a row, have contributed nothing. */
  vainStarts: number;
};

/** From the BSP worker's module to the page. */
export type FromBspWorker = {
  type: 'state';
} & Told
  | {
    type: 'spawn';
    /** The number of its ML module. */
    mlModule: number;
    /** Where that lies in the shared memory. */
    address: number;
  }
  | {
    type: 'progress';
  } & Progress;

/** A state, and what there is to say of it. */
export type Told = {
  /** The state. */
  state: BspState;
  /** Why, in words; may be empty. */
  detail: string;
  /** For `restarting`: in how many milliseconds. */
  delayMs: number;
  /** For `restarting`: how many starts in a row have contributed nothing. The next start is told so. */
  vainStarts: number;
  /** For `training`, `paused` and `not-stored`, soon after an absence: how long it was away; otherwise 0. */
  awaySeconds: number;
  /** Samples that were finished by then, and had not reached the server. */
  keptSamples: number;
  /** How many of them the server has accepted, once all are sent. */
  acceptedSamples: number;
  /** Whether all of them are sent and acknowledged. */
  areSent: boolean;
  /**
   * For `restarting`: samples of this start that the server has said are accepted. After an ML module's death
   * nothing else can say so.
   */
  accepted: number;
};

/** What a volunteer is doing. */
export type BspState = 'connecting'
  | 'training'
  | 'paused'
  | 'reconnecting'
  | 'back-soon'
  | 'no-room'
  | 'waiting'
  | 'not-stored'
  | 'refused'
  | 'restarting'
  | 'failed'
  | 'finished'
  | 'left';

/** How much this tab has done in the present session. */
export type Progress = {
  /** The session's number, as text, since JavaScript's numbers would round it; empty before there is one. */
  session: string;
  /** Samples that its ML modules have computed. */
  samples: number;
  /** Samples in contributions that the server has said are accepted. */
  accepted: number;
  /** A mean over the last seconds. */
  samplesPerSecond: number;
  /** The version of the model that its ML modules compute on. */
  version: number;
  /** All for which there is room, in order; one that was not started has no steps. */
  mlModules: Array<MlModuleProgress>;
};

/** How much one ML module has done. */
export type MlModuleProgress = {
  /** Samples that it has computed. */
  samples: number;
  /** Minibatches that it has computed. */
  steps: number;
  /** Where its time went, without its rests. */
  time: TimeShares;
};

/** A run at some moment. */
export type SimulatedRun = {
  /** Virtual time since its beginning. */
  seconds: number;
  /** How far it has come. */
  phase: SimulatedPhase;
  /** What follows from its seed. */
  settings: SimulatedSettings;
  /** The server. */
  server: SimulatedServer;
  /** Every volunteer that ever came, in order. */
  volunteers: Array<SimulatedVolunteer>;
  /** Samples, from their acceptance to their end. */
  books: SimulatedBooks;
  /** The invariants. */
  invariants: Array<SimulatedInvariant>;
  /** What was found where one did not hold; empty as long as all hold. */
  violation: string;
  /**
   * A hash of all that has arrived at the server, of the totals and of the model's bits, in hexadecimal. It is the
   * same wherever this seed is run.
   */
  digest: string;
};

/** How far a run has come. */
export type SimulatedPhase = 'faults'
  | 'calm'
  | 'farewell'
  | 'closed'
  | 'violated';

/** What follows from the seed. */
export type SimulatedSettings = {
  /** Whether computing waits for synchronising. */
  mode: Mode;
  /** Whether ML modules move along their own gradients. */
  has_local_steps: boolean;
  /** How contributions are encoded. */
  contribution_codec: Codec;
  /** How models are encoded. */
  model_codec: Codec;
  /** The time between two checkpoints; 0 for none. */
  checkpoint_seconds: number;
  /** Faults happen until then. */
  faults_end_seconds: number;
};

/** The server. While it is down, its numbers are those that its last process had. */
export type SimulatedServer = {
  /** Its state. */
  state: SimulatedServerState;
  /** Its starts, this one included. */
  incarnation: number;
  /** The model's version. */
  version: number;
  /** Samples in the model. */
  samples_in_model: number;
  /** Crashes so far. */
  crashes: number;
  /** Checkpoints that were written, and … */
  checkpoints: number;
  /** … that could not be. */
  failed_checkpoints: number;
  /** The step of a checkpoint's writing that is under way; empty if there is none. */
  step: string;
  /** The files on its disk, by their names. */
  files: Array<string>;
  /** Bytes of all of them. */
  disk_bytes: number;
};

/** The server's state. */
export type SimulatedServerState = 'up'
  | 'stopping'
  | 'frozen'
  | 'down';

/** A volunteer. */
export type SimulatedVolunteer = {
  /** Its state. */
  state: SimulatedVolunteerState;
  /** Its ML modules. */
  ml_modules: number;
  /** Samples of the gradients that it has computed. */
  computed: number;
  /** Samples that the server counts for it now. */
  accepted: number;
  /** Samples that it was told are accepted; none if it was closed. */
  told: number | null;
  /** Samples that were accepted before a crash and are to come again. */
  to_come_again: number;
  /** Samples that were accepted before a crash, and went with it. */
  lost: number;
  /** Contributions that it keeps because they are not durable, and … */
  kept: number;
  /** … those of them that are not acknowledged. */
  unacknowledged: number;
  /** Frames on their way to the server, and … */
  frames_up: number;
  /** … from it. */
  frames_down: number;
};

/** A volunteer's state. */
export type SimulatedVolunteerState = 'connected'
  | 'paused'
  | 'cut-off'
  | 'connecting'
  | 'offline'
  | 'frozen'
  | 'left'
  | 'restarts'
  | 'closed'
  | 'refused';

/** Samples and contributions of the whole run. */
export type SimulatedBooks = {
  /** Samples that were accepted at some time: the sum of the next three. */
  ever_accepted: number;
  /** Samples that the server counts now. */
  accepted: number;
  /** Samples that were accepted before a crash and that a volunteer still has. */
  to_come_again: number;
  /** Samples that were accepted before a crash and went with a volunteer, or with a disk that lied. */
  lost: number;
  /** Of these two, what the server itself says that it misses. */
  missing_as_said: number;
  /** Samples that living volunteers were told are accepted. */
  told: number;
  /** Contributions that were accepted. */
  contributions: number;
  /** Contributions that were refused, as too old for example. */
  refused: number;
  /** Contributions that came twice, and were counted once. */
  duplicates: number;
  /** Contributions that came again after a restart, and were counted then. */
  resent: number;
  /** Whether the disk has lost what it had said to hold for good. */
  has_disk_lied: boolean;
};

/** An invariant, and how often it was checked. */
export type SimulatedInvariant = {
  /** Its name. */
  name: SimulatedPromise;
  /** What it promises. */
  promise: string;
  /** How often it was checked. */
  checks: number;
  /** Whether it held each time. */
  holds: boolean;
};

/** What must hold in every run, whatever happens to its server, its disk, its volunteers and their links. */
export type SimulatedPromise = 'once'
  | 'totals'
  | 'durable'
  | 'versions'
  | 'sessions'
  | 'memory'
  | 'start'
  | 'agreement'
  | 'books';

/** An entry. */
export type SimulatedEvent = {
  /** Virtual time since the run's beginning. */
  seconds: number;
  /** What it is about. */
  subject: SimulatedSubject;
  /** The number of the volunteer, from 0, if it is about one. */
  volunteer: number | null;
  /** What happened, as a sentence. */
  text: string;
};

/** What an entry is about. */
export type SimulatedSubject = 'crash'
  | 'server'
  | 'checkpoint'
  | 'disk'
  | 'link'
  | 'volunteer';

/** From the BSP worker's script to the page, before there is a module and while there is one. */
export type FromBspScript =
  /** It is there. */
  | { type: 'alive' }
  /** What ML workers start with. */
  | { type: 'module'; module: WebAssembly.Module; memory: WebAssembly.Memory }
  /** There can be no module. */
  | { type: 'failed'; detail: string };

/** What this tab does, in one word; `document.body.dataset.state` has it too. */
export type TabState = BspState | 'unsupported' | 'not-contributing';

/** What a run aims at. Held-out answers to count as right or wrong come with an accuracy; numbers have a loss only. */
export type Target = { accuracy: number | null; loss: number | null };
