//! A model that is not finite ends the training, and reaches no volunteer.

use std::time::Duration;

use bsp::protocol::message::ContributionRefusal;

use super::gradients::{Diverging, Gradients};
use super::tab::Machine;
use super::world::{World, config, seconds};

#[test]
fn a_model_that_is_not_finite_never_reaches_a_volunteer() {
    // The checks of every frame find a model that is not finite.
    let optimizer = Box::new(Diverging { good_steps: 5 });
    let mut world = World::with_optimizer(1, config(), Gradients::Counting, optimizer);
    let tab = world.join(Machine::default());
    world.run_until(seconds(10));
    assert!(world.central.phase().has_diverged());
    assert_eq!((world.central.stamp().version, world.observer.closed.len()), (5, 5));
    assert!(world.central.model().iter().all(|parameter| parameter.is_finite()));
    assert!(
        world
            .observer
            .refusals
            .iter()
            .all(|(_, reason)| *reason == ContributionRefusal::AnotherRun)
    );
    let late = world.join(Machine::default());
    world.run_until(seconds(12));
    assert_eq!(
        world.latest_model_of(late).map(|stamp| stamp.version),
        Some(5),
        "a volunteer that joins receives the last good one"
    );
    world.leave(tab);
    world.run_for(Duration::from_secs(3));
    world.assert_all_is_settled(tab);
}
