//! The sums that training checks after each event.

use super::*;
use crate::central::test_config::{Descent, test_config, test_contribution};

fn training() -> Training {
    Training::new(Time::ZERO, test_config(), vec![0.0], Box::new(Descent))
}

#[test]
#[should_panic(expected = "each accepted sample is in the model or in the open superstep")]
fn a_lost_sample_is_noticed() {
    let mut training = training();
    training.assert_consistent();
    training.totals.on_accepted(8, 1, 0.0, 1.0);
    training.assert_consistent();
}

#[test]
#[should_panic(expected = "totals and trainer count the same samples")]
fn a_version_that_the_totals_miss_is_noticed() {
    let mut training = training();
    training.trainer.step(&mut [test_contribution()], 1.0).unwrap();
    training.assert_consistent();
}
