//! Tabs of the simulation, and a local BSP module without any world around it.

use bsp::local::{self, Local};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{FromCentral, Mode, SessionId, Token, Welcome};
use bsp::shared_memory::LocalSide;
use bsp::time::Time;

use super::world::{RUN, SPEC_HASH};

pub(super) use simulator::Machine;

/// A tab whose link is as fast in both directions.
pub(super) fn link_of(bytes_per_second: f64) -> Machine {
    Machine {
        up_bytes_per_second: bytes_per_second,
        down_bytes_per_second: bytes_per_second,
        ..Machine::default()
    }
}

/// A local BSP module without a world around it, over this shared memory, linked and welcomed as session 1 at time
/// zero.
pub(super) fn welcomed(memory: LocalSide) -> Local {
    joined(memory, Codec::F32)
}

/// The same, where the welcome asks for contributions in this codec.
pub(super) fn joined(memory: LocalSide, codec: Codec) -> Local {
    let mut local = Local::new(Time::ZERO, local_config(Mode::Decoupled), memory);
    let mut actions = Vec::new();
    local.on_timeout(Time::ZERO, &mut actions);
    local.on_open(Time::ZERO, &mut actions);
    let welcome = Welcome {
        session: SessionId(1),
        token: Token(1),
        period_us: 1000,
        settled: 0,
        durable: 0,
        is_last_refused: false,
        codec,
    };
    let welcome = FromCentral::Welcome(welcome).encode();
    local.on_frame(Time::ZERO, &welcome, &mut actions).unwrap();
    local
}

/// The settings of a local module.
pub(super) fn local_config(mode: Mode) -> local::Config {
    local::Config {
        run: RUN,
        spec_hash: SPEC_HASH,
        mode,
        has_local_steps: false,
        max_read_out_gradients: u64::MAX,
        jitter_seed: 1,
    }
}
