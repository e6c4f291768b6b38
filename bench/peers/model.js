// What libraries that build the model by themselves need: the layers' sizes, and numbers.

/** @import { Model, SizedLayer } from './types' */

/**
 * The layers with all their sizes, and how many classes the last one gives.
 * @param {Model} model
 */
export function sized({ input, layers }) {
  let shape = input;
  const all = layers.map((layer) => {
    const [channels = 0, height = 0, width = 0] = shape;
    /** @type {SizedLayer} */
    let found;
    switch (layer.kind) {
      case 'conv2d': {
        const { filters, kernel, padding = 0 } = layer;
        found = { kind: 'conv2d', channels, height, width, filters, kernel, padding };
        shape = [filters, height + 2 * padding + 1 - kernel, width + 2 * padding + 1 - kernel];
        break;
      }
      case 'max_pool2d':
        found = { ...layer, channels, height, width };
        shape = [channels, height / layer.size, width / layer.size];
        break;
      case 'flatten':
        found = layer;
        shape = [shape.reduce((product, size) => product * size)];
        break;
      case 'linear':
        found = { ...layer, inputs: channels };
        shape = [layer.outputs];
        break;
      case 'relu':
        found = layer;
        break;
      default:
        throw new Error(`no layer of the kind ${JSON.stringify(layer)}`);
    }
    return found;
  });
  return { layers: all, classes: shape[0] ?? 0 };
}

/**
 * Random numbers of a linear congruential generator: good enough for a stopwatch.
 * @param {number} seed
 */
export function generator(seed) {
  let state = seed;
  /** As many numbers between -`scale` and `scale` as the shape holds. @param {number[]} shape @param {number} scale */
  return (shape, scale) =>
    Float32Array.from({ length: shape.reduce((product, size) => product * size) }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return ((state >>> 8) / (1 << 23) - 1) * scale;
    });
}

/**
 * (batch, classes), one 1 in each row.
 * @param {number} batch @param {number} classes
 */
export function targets(batch, classes) {
  return Float32Array.from({ length: batch * classes }, (_, place) =>
    place % classes === Math.floor(place / classes) % classes ? 1 : 0,
  );
}
