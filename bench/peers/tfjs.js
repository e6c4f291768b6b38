// Gradient steps of TensorFlow.js. Its CPU backends want the channels last.

/** @import { GradientRequest, Work } from './types' */

import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-core/dist/register_all_gradients';
import { getThreadsCount, setThreadsCount, setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import * as tf from '@tensorflow/tfjs-core';

import { generator, sized, targets } from './model.js';

/**
 * @param {GradientRequest} request @param {'wasm' | 'cpu'} backend
 * @returns {Promise<Work>}
 */
export async function tfjs({ model, batch, seed }, backend) {
  setWasmPaths('./');
  // How many it takes of them it says afterwards.
  setThreadsCount(navigator.hardwareConcurrency);
  if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js has no backend ${backend} here`);
  await tf.ready();

  const numbers = generator(seed);
  /** @param {number[]} shape @param {number} scale */
  const tensor = (shape, scale) => tf.tensor(numbers(shape, scale), shape);
  const { layers, classes } = sized(model);
  /** @type {tf.Tensor[]} */
  const parameters = [];
  for (const layer of layers) {
    if (layer.kind === 'conv2d') {
      const { kernel, channels, filters } = layer;
      const scale = 1 / Math.sqrt(channels * kernel * kernel);
      parameters.push(tensor([kernel, kernel, channels, filters], scale), tensor([filters], scale));
    } else if (layer.kind === 'linear') {
      const scale = 1 / Math.sqrt(layer.inputs);
      parameters.push(tensor([layer.inputs, layer.outputs], scale), tensor([layer.outputs], scale));
    }
  }
  const [channels = 1, ...area] = model.input;
  const inputs = tensor([batch, ...area, channels], 1);
  const labels = tf.tensor2d(targets(batch, classes), [batch, classes]);

  /** @param {tf.Tensor[]} parameters @returns {tf.Scalar} */
  const loss = (...parameters) => {
    const own = parameters.values();
    const next = () => /** @type {any} */ (own.next().value);
    /** @type {any} */
    let x = inputs;
    for (const layer of layers) {
      switch (layer.kind) {
        case 'conv2d':
          x = tf.fused.conv2d({ x, filter: next(), strides: 1, pad: layer.padding, bias: next() });
          break;
        case 'relu':
          x = tf.relu(x);
          break;
        case 'max_pool2d':
          x = tf.maxPool(x, layer.size, layer.size, 'valid');
          break;
        case 'flatten':
          x = tf.reshape(x, [batch, -1]);
          break;
        case 'linear':
          x = tf.fused.matMul({ a: x, b: next(), bias: next() });
          break;
      }
    }
    return /** @type {tf.Scalar} */ (tf.losses.softmaxCrossEntropy(labels, x));
  };
  const gradient = tf.grads(loss);
  /** @returns {Float32Array[]} */
  const step = () => {
    /** @type {Float32Array[]} */
    let read = [];
    tf.tidy(() => {
      read = gradient(parameters).map((values) => /** @type {Float32Array} */ (values.dataSync()));
    });
    return read;
  };
  return { step, units: batch, threads: backend === 'wasm' ? getThreadsCount() : 1 };
}
