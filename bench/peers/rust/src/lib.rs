//! Gradient steps of burn and candle in WebAssembly: the same models, and the same exports, as `bench/engine-wasm`.

#![cfg(target_arch = "wasm32")]

mod burn_step;
mod candle_step;
mod model;
