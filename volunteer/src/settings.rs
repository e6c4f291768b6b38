//! What a volunteer is told from the start.

#[cfg(doc)]
use crate::action::Ending;

/// What a loop must know from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For how many ML modules there is room.
    pub ml_modules: usize,
    /// How many of them compute.
    pub active: usize,
    /// For how much of its time each of them computes, from 1 to 100.
    pub cpu_percent: u8,
    /// Whether none of them computes yet.
    pub is_paused: bool,
    /// Where random numbers begin: different for each volunteer.
    pub seed: u64,
    /// How many starts before this one, in a row, have contributed nothing.
    pub vain_starts: u32,
    /// Whether a fresh start happens in this loop. Otherwise it ends with [`Ending::Restarting`], and another loop is
    /// made, in new memory.
    pub restarts_here: bool,
}
