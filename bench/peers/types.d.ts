/** What the driver asks of the page; `bench/src/engine/browser.rs` writes it. */
export type Request = GradientRequest | WasmRequest;

/** A gradient step of a library that builds the model by itself. */
export interface GradientRequest {
  engine: 'tfjs-wasm' | 'tfjs-cpu' | 'jax';
  model: Model;
  batch: number;
  seed: number;
  /** How many floats the gradients must be. */
  parameters: number;
  seconds: number;
}

/** Work of a wasm package of this repository, in one worker or in more at once. */
export interface WasmRequest {
  engine: 'wasm';
  /** The package's JavaScript, relative to the page. */
  module: string;
  /** The name of the class that does it. */
  work: string;
  /** What its constructor gets. */
  arguments: unknown[];
  /** How many floats the gradients must be, where the work is a gradient. */
  parameters: number | null;
  workers: number;
  seconds: number;
}

/** What is measured: `step` does it once. */
export interface Work {
  /** All gradients, as JavaScript has them. */
  step(): Float32Array[] | Promise<Float32Array[]>;
  /** What a step does: samples, operations or floats. */
  units: number;
  /** How many threads compute. */
  threads: number;
}

/** What the page answers. */
export interface Outcome {
  unitsPerSecond: number;
  threads: number;
}

/** A model as the files in `bench/models` describe it. */
export interface Model {
  input: number[];
  layers: Layer[];
}

export type Layer =
  | { kind: 'conv2d'; filters: number; kernel: number; padding?: number }
  | { kind: 'relu' }
  | { kind: 'max_pool2d'; size: number }
  | { kind: 'flatten' }
  | { kind: 'linear'; outputs: number };

/** A layer whose sizes are known. */
export type SizedLayer =
  | {
      kind: 'conv2d';
      channels: number;
      height: number;
      width: number;
      filters: number;
      kernel: number;
      padding: number;
    }
  | { kind: 'relu' }
  | { kind: 'max_pool2d'; size: number; channels: number; height: number; width: number }
  | { kind: 'flatten' }
  | { kind: 'linear'; inputs: number; outputs: number };
