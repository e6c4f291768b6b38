//! The promises of going back to an earlier model: what volunteers were told stays true.

use super::checkpoints::{arrive, at, config, join, made, make, resumed};
use super::*;
use crate::protocol::message::{ContributionRefusal, Token, Welcome};

/// What multiplies the learning rate.
const FACTOR: f32 = 0.5;

/// A run that goes back when it diverges.
fn begun() -> Central {
    let config = Config {
        goes_back: true,
        ..config()
    };
    Central::new(Time::ZERO, config, vec![1.0; PARAMETERS], Box::new(Descent))
}

fn proof(welcome: &Welcome) -> Option<(SessionId, Token)> {
    Some((welcome.session, welcome.token))
}

/// A run of which the first superstep closed, a checkpoint was made, and then the second one closed and one
/// contribution more was accepted. Then it diverges.
fn diverged() -> (Central, Welcome, Checkpoint) {
    let mut central = begun();
    let welcome = join(&mut central, 1, None, 0).unwrap();
    let whole = test_config().superstep_samples;
    arrive(
        &mut central,
        at(1),
        1,
        &contribution_of(welcome.session, 1, 0, whole, 0.1),
    );
    central.close_superstep(at(1), &mut Vec::new());
    arrive(&mut central, at(1), 1, &contribution_of(welcome.session, 2, 0, 16, 0.1));
    let checkpoint = make(&mut central, at(2));
    central.on_checkpoint_written(at(2), 1, &mut Vec::new());
    assert_eq!(
        (checkpoint.trainer.version, checkpoint.open.contributions.len()),
        (1, 1)
    );
    arrive(
        &mut central,
        at(3),
        1,
        &contribution_of(welcome.session, 3, 1, whole, 0.1),
    );
    central.close_superstep(at(3), &mut Vec::new());
    arrive(&mut central, at(4), 1, &contribution_of(welcome.session, 4, 2, 8, 0.1));
    let mut actions = Vec::new();
    central.diverge(at(5), Divergence::Evaluation { version: 2 }, &mut actions);
    assert!(messages(&actions).contains(&FromCentral::BackSoon), "{actions:?}");
    (central, welcome, checkpoint)
}

#[test]
fn a_run_that_goes_back_keeps_what_volunteers_were_told_and_says_what_no_model_holds() {
    let (mut central, welcome, checkpoint) = diverged();
    let whole = test_config().superstep_samples;
    let told = central.totals();
    assert_eq!((told.samples, told.accepted), (2 * whole + 24, 4));
    let checkpoint = checkpoint.with_books(central.books(), 2, FACTOR);
    let mut central = resumed(checkpoint, 2, Vec::new());

    assert_eq!((central.stamp().version, central.setbacks().rate_factor), (1, FACTOR));
    let totals = central.totals();
    assert_eq!(
        (totals.samples, totals.accepted, totals.gradients),
        (told.samples, 4, told.gradients)
    );
    assert_eq!((totals.samples_in_model, totals.supersteps), (whole, 1));
    let lost = central.samples_lost(at(5));
    assert_eq!(
        (lost.gone_back, lost.total()),
        (whole + 8, whole + 8),
        "16 are in the open superstep again"
    );

    // Its volunteer was told of four, the last two of which were not durable by then: it sends none of them again.
    let again = join(&mut central, 1, proof(&welcome), 2).unwrap();
    assert_eq!((again.settled, again.durable), (4, 4));
    assert_eq!(
        (central.totals().lost_with_disk, central.samples_awaited(at(5))),
        (0, 0)
    );
    arrive(&mut central, at(1), 1, &contribution_of(welcome.session, 4, 2, 8, 0.1));
    assert_eq!(
        (central.totals().samples, central.totals().duplicates),
        (told.samples, 1)
    );
    // A number that stays: over a restart, and when more is accepted.
    let session = again.session;
    arrive(&mut central, at(1), 1, &contribution_of(session, 5, 1, 8, 0.1));
    central.close_superstep(at(2), &mut Vec::new());
    let checkpoint = make(&mut central, at(3));
    let after = resumed(checkpoint, 3, Vec::new());
    assert_eq!(after.samples_lost(at(3)), lost);
    assert_eq!(after.totals().samples, told.samples + 8);
}

#[test]
fn what_was_computed_on_a_model_that_led_to_a_divergence_is_refused_with_that_reason_and_is_no_loss_of_a_disk() {
    let (mut central, welcome, checkpoint) = diverged();
    let mut central = resumed(checkpoint.with_books(central.books(), 2, FACTOR), 2, Vec::new());
    join(&mut central, 1, proof(&welcome), 4).unwrap();
    let lost = central.samples_lost(at(6));
    // Half of it on version 2, which the run has gone back from, and half on version 1.
    let spans = contribution_spanning(welcome.session, 5, 1 + 2, 2);
    let actions = arrive(&mut central, at(6), 1, &spans);
    let refused = Some(ContributionRefusal::Diverged);
    let through = 5;
    let ack = messages(&actions).remove(0);
    assert!(
        matches!(&ack, FromCentral::Ack(ack) if ack.through == through && ack.refused == refused),
        "{ack:?}"
    );
    assert_eq!(central.samples_lost(at(6)), lost);
    assert_eq!(central.totals().lost_with_disk, 0);
    // What the checkpoint's version has is as good as before.
    arrive(&mut central, at(6), 1, &contribution_of(welcome.session, 6, 1, 8, 0.1));
    assert_eq!((central.totals().accepted, central.totals().refused), (5, 1));
}

#[test]
fn a_run_that_goes_back_twice_counts_what_both_models_have_cost() {
    let (mut central, welcome, checkpoint) = diverged();
    let first = checkpoint.clone();
    let mut central = resumed_to_go_back(checkpoint.with_books(central.books(), 2, FACTOR), 2);
    let once = central.samples_lost(at(5)).gone_back;
    join(&mut central, 1, proof(&welcome), 4).unwrap();
    let whole = test_config().superstep_samples;
    arrive(
        &mut central,
        at(6),
        1,
        &contribution_of(welcome.session, 5, 1, whole, 0.1),
    );
    central.close_superstep(at(6), &mut Vec::new());
    central.diverge(at(7), Divergence::Gradients { version: 2 }, &mut Vec::new());
    let central = resumed(first.with_books(central.books(), 3, FACTOR), 3, Vec::new());
    assert_eq!(central.samples_lost(at(7)).gone_back, once + whole);
    assert_eq!(
        (central.setbacks().count, central.setbacks().rate_factor),
        (2, FACTOR * FACTOR)
    );
}

/// As incarnation `incarnation`, and it may go back once more.
fn resumed_to_go_back(checkpoint: Checkpoint, incarnation: u32) -> Central {
    let config = Config {
        goes_back: true,
        ..config()
    };
    Central::resume(
        Time::ZERO,
        config,
        checkpoint,
        incarnation,
        Box::new(Descent),
        Vec::new(),
    )
    .unwrap()
}

#[test]
fn a_checkpoint_whose_totals_are_of_another_model_is_refused() {
    let mut checkpoint = made_by(&mut begun());
    checkpoint.totals.samples_in_model = 8;
    let outcome = Central::resume(Time::ZERO, config(), checkpoint, 2, Box::new(Descent), Vec::new());
    assert_eq!(outcome.err(), Some(RecordError::Totals));
}

fn made_by(central: &mut Central) -> Checkpoint {
    let mut actions = Vec::new();
    central.make_checkpoint(at(1), &mut actions);
    made(actions).unwrap()
}
