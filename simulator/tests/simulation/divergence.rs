//! A run that diverges ends the training: no volunteer receives a model that is not finite, or computes for nobody.

use bsp::local::End;
use bsp::protocol::message::Refusal;

use super::gradients::{Diverging, Gradients};
use super::tab::Machine;
use super::world::{World, config, seconds};

#[test]
fn a_model_that_is_not_finite_never_reaches_a_volunteer_and_everybody_is_told() {
    // The checks of every frame find a model that is not finite.
    let optimizer = Box::new(Diverging { good_steps: 5 });
    let mut world = World::with_optimizer(1, config(), Gradients::Counting, optimizer);
    let tab = world.join(Machine::default());
    world.run_until(seconds(10));
    assert!(world.central.phase().has_diverged());
    assert_eq!((world.central.stamp().version, world.observer.closed.len()), (5, 5));
    assert!(world.central.model().iter().all(|parameter| parameter.is_finite()));
    assert_eq!(world.end_of(tab), Some(&End::StartAfresh(Refusal::Diverged)));
    assert_eq!(world.central.volunteers(world.now).count(), 0);
    let late = world.join(Machine::default());
    world.run_until(seconds(12));
    assert_eq!(world.end_of(late), Some(&End::StartAfresh(Refusal::Diverged)));
}
