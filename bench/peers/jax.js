// Gradient steps of jax-js, compiled by its `jit`. A function owns what it is given: `.ref` keeps a value for later.

/** @import { GradientRequest, SizedLayer, Work } from './types' */

import { defaultDevice, grad, init, jit, nn, numpy as np, tree } from '@jax-js/jax';

import { generator, sized, targets } from './model.js';

/**
 * Convolution as one product of the filters with all windows: `lax.conv` gives the same, but takes several times as
 * long.
 * @param {np.Array} images (batch, channels, height, width)
 * @param {np.Array} filters (filters, channels, kernel, kernel)
 * @param {Extract<SizedLayer, { kind: 'conv2d' }>} layer @param {number} batch
 */
function convolution(images, filters, { channels, height, width, filters: count, kernel, padding }, batch) {
  const rows = height + 2 * padding + 1 - kernel;
  const columns = width + 2 * padding + 1 - kernel;
  const padded = np.pad(images, [[0, 0], [0, 0], [padding, padding], [padding, padding]]);
  const shifted = [];
  for (let top = 0; top < kernel; top++) {
    for (let left = 0; left < kernel; left++) {
      shifted.push(padded.ref.slice([], [], [top, top + rows], [left, left + columns]));
    }
  }
  padded.dispose();
  const depth = channels * kernel * kernel;
  const windows = np.stack(shifted, 2).reshape([batch, depth, rows * columns]).transpose([1, 0, 2]);
  const product = np.matmul(filters.reshape([count, depth]), windows.reshape([depth, batch * rows * columns]));
  return product.reshape([count, batch, rows, columns]).transpose([1, 0, 2, 3]);
}

/**
 * @param {GradientRequest} request
 * @returns {Promise<Work>}
 */
export async function jax({ model, batch, seed }) {
  await init('wasm');
  defaultDevice('wasm');

  const numbers = generator(seed);
  /** @param {number[]} shape @param {number} scale */
  const array = (shape, scale) => np.array(numbers(shape, scale)).reshape(shape);
  const { layers, classes } = sized(model);
  /** @type {np.Array[]} */
  const parameters = [];
  for (const layer of layers) {
    if (layer.kind === 'conv2d') {
      const { kernel, channels, filters } = layer;
      const scale = 1 / Math.sqrt(channels * kernel * kernel);
      parameters.push(array([filters, channels, kernel, kernel], scale), array([1, filters, 1, 1], scale));
    } else if (layer.kind === 'linear') {
      const scale = 1 / Math.sqrt(layer.inputs);
      parameters.push(array([layer.inputs, layer.outputs], scale), array([layer.outputs], scale));
    }
  }
  const inputs = array([batch, ...model.input], 1);
  const labels = np.array(targets(batch, classes)).reshape([batch, classes]);

  /** @param {np.Array[]} parameters @param {np.Array} inputs @param {np.Array} labels */
  const loss = (parameters, inputs, labels) => {
    const own = parameters.values();
    const next = () => /** @type {np.Array} */ (own.next().value);
    let x = inputs;
    for (const layer of layers) {
      switch (layer.kind) {
        case 'conv2d':
          x = convolution(x, next(), layer, batch).add(next());
          break;
        case 'relu':
          x = nn.relu(x);
          break;
        case 'max_pool2d': {
          // Windows that do not overlap are axes of their own.
          const { size, channels, height, width } = layer;
          x = np.max(x.reshape([batch, channels, height / size, size, width / size, size]), [3, 5]);
          break;
        }
        case 'flatten':
          x = x.reshape([batch, -1]);
          break;
        case 'linear':
          x = np.matmul(x, next()).add(next());
          break;
      }
    }
    return np.sum(nn.logSoftmax(x).mul(labels)).mul(-1 / batch);
  };
  const gradient = jit(grad(loss));
  const step = async () => {
    const gradients = gradient(tree.ref(parameters), inputs.ref, labels.ref);
    const read = await Promise.all(gradients.map((values) => values.data()));
    return /** @type {Float32Array[]} */ (read);
  };
  return { step, units: batch, threads: navigator.hardwareConcurrency };
}
