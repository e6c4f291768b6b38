//! The gradient engine alone in WebAssembly, compiled as `client-wasm` is, for a page that measures it beside others.
//!
//! Each file is one kind of work. It is prepared once, `step` does it, and `units` says how much that was; the page has
//! the clock (`bench/peers/measure.js`).
//!
//! - [`gradient`]: a model's gradient, as an ML module computes it.
//! - [`product`]: a matrix product, which a gradient's time goes to.
//! - [`peak`]: multiplications and additions in registers alone, which no product can be faster than.
//! - [`add`]: a gradient's way into the shared aggregate, and the one without a lease.

#![cfg(target_arch = "wasm32")]

mod add;
mod gradient;
mod numbers;
mod peak;
mod product;
