//! The promises of a volunteer's loop, with virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::time::Duration;

use bsp::protocol::message::{FromVolunteer, Refusal, SessionId};
use bytes::Bytes;
use volunteer::action::Ending;
use volunteer::fetch::{FetchError, Resource};
use volunteer::messages::State;
use volunteer::settings::Settings;
use world::{World, description, description_bytes, settings, shard};

fn second_shard() -> Resource {
    let name = shard(1).name();
    Resource::Shard { index: 1, name }
}

#[test]
fn a_volunteer_fetches_the_description_connects_and_trains() {
    let mut world = World::new(settings());
    assert_eq!(world.take_states(), [State::Connecting]);
    assert_eq!(world.take_fetches(), [Resource::Description]);
    world.answer(Resource::Description, Ok(&description_bytes()));
    assert_eq!(world.take_connects(), 1);
    assert_eq!(world.take_log(), ["run two shards: 2 ML modules on 10 parameters"]);
    assert!(world.take_ml_modules().is_empty(), "there is no session yet");
    world.welcome();
    assert_eq!(world.take_states(), [State::Training]);
    assert_eq!(world.take_ml_modules(), [0, 1]);
    assert_eq!(world.take_log(), ["session 21"]);
    world.answer_shards();
    world.compute();
    world.pass(2 * world::PERIOD);
    assert_eq!(world.take_contributions(), [1]);
    assert!(world.volunteer.contribution_frame(1).is_some());
    world.accept();
    let progress = world.volunteer.measure_progress(world.now).unwrap();
    assert_eq!((progress.samples, progress.accepted, progress.version), (8, 8, 1));
    assert_eq!(progress.session, "21");
}

#[test]
fn a_server_out_of_reach_is_asked_again_for_ever_after_longer_and_longer_waits() {
    for error in [FetchError::NoAnswer("refused".to_owned()), FetchError::Status(503)] {
        let mut world = World::new(settings());
        let mut waits = Vec::new();
        for _ in 0..20 {
            assert_eq!(world.take_fetches(), [Resource::Description]);
            assert_eq!(world.volunteer.next_timeout(world.now), None, "the answer is awaited");
            world.answer(Resource::Description, Err(error.clone()));
            let before = world.now;
            waits.push(world.next_timeout().unwrap().since(before));
        }
        assert!(waits[0] <= Duration::from_millis(500), "{waits:?}");
        assert!(waits[19] >= Duration::from_secs(15) && waits[19] <= Duration::from_secs(30));
        assert!(world.take_log()[0].contains("trying again in 0."));
        assert_eq!(world.take_states(), [State::Connecting]);
    }
}

#[test]
fn a_description_that_is_not_there_ends_the_volunteer_with_a_reason() {
    let mut world = World::new(settings());
    world.take_states();
    world.answer(Resource::Description, Err(FetchError::Status(404)));
    let told = world.take_told();
    assert_eq!(told[0].state, State::Failed);
    assert_eq!(told[0].detail, "/api/v1/run: the server answered 404");
    assert_eq!(world.take_endings(), [Ending::Failed(told[0].detail.to_string())]);
    assert_eq!(world.volunteer.next_timeout(world.now), None);
}

#[test]
fn a_server_of_another_version_ends_the_volunteer_with_a_reason() {
    let mut other = description();
    other.protocol += 1;
    for bytes in [serde_json::to_vec(&other).unwrap(), b"not JSON".to_vec()] {
        let mut world = World::new(settings());
        world.take_states();
        world.answer(Resource::Description, Ok(&bytes));
        let told = world.take_told();
        assert_eq!(told[0].state, State::Failed);
        assert!(told[0].detail.contains("reload the page"), "{}", told[0].detail);
        assert_eq!(world.take_endings().len(), 1);
    }
}

#[test]
fn a_shard_that_is_not_there_is_given_up_and_the_next_is_fetched() {
    let mut world = World::connecting(settings());
    world.welcome();
    let first = world.take_fetches().pop().unwrap();
    world.take_log();
    world.answer(first.clone(), Err(FetchError::Status(404)));
    let log = world.take_log();
    assert!(
        log[0].ends_with("the server answered 404; going on without this shard"),
        "{log:?}"
    );
    let next = world.take_fetches();
    assert!(next.len() == 1 && next[0] != first, "{next:?}");
    assert!(world.take_endings().is_empty());
}

#[test]
fn a_shard_that_is_damaged_is_given_up_and_the_next_is_fetched() {
    let mut world = World::connecting(settings());
    world.welcome();
    let first = world.take_fetches().pop().unwrap();
    world.answer(first, Ok(b"not a shard"));
    assert!(
        world
            .take_log()
            .iter()
            .any(|line| line.contains("going on without this shard"))
    );
    assert_eq!(world.take_fetches().len(), 1);
}

#[test]
fn a_volunteer_without_any_shard_ends_with_a_reason_instead_of_waiting_for_ever() {
    let mut world = World::connecting(settings());
    world.welcome();
    world.take_states();
    for _ in 0..2 {
        let resource = world.take_fetches().pop().unwrap();
        world.answer(resource, Err(FetchError::Status(410)));
    }
    let told = world.take_told();
    assert_eq!(told[0].state, State::Failed);
    assert!(
        told[0].detail.starts_with("no training data can be had"),
        "{}",
        told[0].detail
    );
    assert_eq!(world.take_endings(), [Ending::Failed(told[0].detail.to_string())]);
}

#[test]
fn a_shard_is_fetched_again_while_the_server_is_away_and_training_goes_on() {
    let mut world = World::connecting(settings());
    world.welcome();
    let shard = world.take_fetches().pop().unwrap();
    world.answer(shard.clone(), Err(FetchError::Status(502)));
    assert!(world.take_fetches().is_empty());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.take_fetches(), [shard]);
    assert_eq!(world.take_states(), [State::Connecting, State::Training]);
}

#[test]
fn an_answer_that_nothing_waits_for_changes_nothing() {
    let mut world = World::training(settings());
    world.take_log();
    world.actions.clear();
    world.answer(second_shard(), Ok(&shard(1).encode()));
    world.answer(Resource::Description, Ok(&description_bytes()));
    world.answer(Resource::Description, Err(FetchError::Status(404)));
    assert!(world.actions.is_empty());
}

#[test]
fn a_lost_link_is_told_and_opened_again_while_the_ml_modules_go_on() {
    let mut world = World::training(settings());
    world.take_states();
    world.take_connects();
    world.on(|volunteer, now, actions| volunteer.on_closed(now, actions));
    assert_eq!(world.take_states(), [State::Reconnecting]);
    world.compute();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.take_connects(), 1);
    world.take_sent();
    world.on(|volunteer, now, actions| volunteer.on_open(now, actions));
    let sent = world.take_sent();
    assert!(
        matches!(&sent[..], [FromVolunteer::Hello(hello)] if hello.session.is_some()),
        "{sent:?}"
    );
}

#[test]
fn a_frame_that_cannot_be_used_is_logged_and_the_link_is_opened_anew() {
    let mut world = World::training(settings());
    world.take_log();
    world.take_states();
    world.bytes(&Bytes::from_static(b"\xff\xff\xff"));
    assert!(world.take_log()[0].starts_with("a frame of the server can't be used"));
    assert_eq!(world.take_states(), [State::Reconnecting]);
}

#[test]
fn a_pause_is_told_when_it_has_come_and_when_it_is_over() {
    let mut world = World::training(settings());
    world.take_states();
    world.on(|volunteer, now, actions| volunteer.pause(now, actions));
    assert_eq!(world.take_states(), [State::Paused]);
    world.on(|volunteer, now, actions| volunteer.resume(now, actions));
    assert_eq!(world.take_states(), [State::Training]);
}

#[test]
fn what_was_wished_before_the_description_came_holds_after_it() {
    let mut world = World::new(settings());
    world.on(|volunteer, now, actions| {
        volunteer.pause(now, actions);
        volunteer.set_active_ml_modules(now, 3, actions);
        volunteer.set_cpu_percent(now, 50, actions);
    });
    world.take_states();
    world.answer(Resource::Description, Ok(&description_bytes()));
    world.welcome();
    assert_eq!(world.take_states(), [State::Paused]);
    assert_eq!(world.take_ml_modules(), [0, 1, 2]);
}

#[test]
fn more_ml_modules_are_started_when_they_are_wanted_and_none_twice() {
    let mut world = World::training(settings());
    assert_eq!(world.take_ml_modules(), [0, 1]);
    for active in [1, 3, 2, 3, 99] {
        world.on(|volunteer, now, actions| volunteer.set_active_ml_modules(now, active, actions));
    }
    assert_eq!(world.take_ml_modules(), [2]);
}

#[test]
fn a_volunteer_that_leaves_sends_what_it_has_and_ends() {
    let mut world = World::training(settings());
    world.compute();
    world.on(|volunteer, now, actions| volunteer.leave(now, actions));
    // The ML modules have stopped.
    world.ml_modules.clear();
    world.pass(Duration::from_millis(10));
    assert_eq!(world.take_contributions(), [1]);
    assert!(world.take_endings().is_empty(), "it is not settled yet");
    world.take_sent();
    world.accept();
    world.pass(Duration::from_millis(10));
    let sent = world.take_sent();
    assert!(matches!(sent[..], [FromVolunteer::Leave]), "{sent:?}");
    assert_eq!(world.take_endings(), [Ending::Left]);
    assert!(world.take_log().contains(&"leaving".to_owned()));
}

#[test]
fn a_volunteer_that_leaves_before_it_has_joined_or_while_it_waits_ends_at_once() {
    let mut world = World::new(settings());
    world.on(|volunteer, now, actions| volunteer.leave(now, actions));
    assert_eq!(world.take_endings(), [Ending::Left]);
    world.answer(Resource::Description, Ok(&description_bytes()));
    assert_eq!(world.take_connects(), 0);

    let mut world = World::training(settings());
    world.refuse(Refusal::AnotherRun);
    world.on(|volunteer, now, actions| volunteer.leave(now, actions));
    assert_eq!(world.take_endings(), [Ending::Left]);
    assert_eq!(world.volunteer.next_timeout(world.now), None);
}

#[test]
fn a_finished_run_and_a_refusal_end_the_volunteer() {
    let mut world = World::training(settings());
    world.take_states();
    world.refuse(Refusal::Finished);
    assert_eq!(world.take_states(), [State::Finished]);
    assert_eq!(world.take_endings(), [Ending::Finished]);

    let mut world = World::training(settings());
    world.take_states();
    world.refuse(Refusal::HelloFirst);
    let told = world.take_told();
    assert_eq!(told[0].state, State::Refused);
    assert_eq!(told[0].detail, Refusal::HelloFirst.to_string());
    assert_eq!(world.take_endings(), [Ending::Refused(told[0].detail.to_string())]);
}

#[test]
fn another_run_at_the_same_address_is_joined_afresh_after_a_wait() {
    for refusal in [
        Refusal::AnotherRun,
        Refusal::AnotherModel,
        Refusal::SessionOver(SessionId(21)),
    ] {
        let mut world = World::training(settings());
        world.take_told();
        world.take_ml_modules();
        world.refuse(refusal.clone());
        let told = world.take_told();
        assert_eq!(told[0].state, State::Restarting);
        assert_eq!(told[0].detail, refusal.to_string());
        let wait = Duration::from_millis(u64::from(told[0].delay_ms));
        assert!(
            wait >= Duration::from_secs(1) && wait <= Duration::from_secs(2),
            "{wait:?}"
        );
        world.pass(wait - Duration::from_millis(1));
        assert!(world.take_fetches().is_empty());
        world.pass(Duration::from_millis(2));
        assert_eq!(world.take_fetches(), [Resource::Description]);
        world.answer(Resource::Description, Ok(&description_bytes()));
        world.welcome();
        assert_eq!(world.take_ml_modules(), [3, 4], "new ones");
        // A thread of the first start can't harm this one.
        world.on(|volunteer, now, actions| volunteer.on_ml_module_died(now, 0, actions));
        world.pass(Duration::from_secs(1));
        assert_eq!(world.take_states(), [State::Connecting, State::Training]);
    }
}

#[test]
fn a_full_server_is_tried_again_after_a_wait() {
    let mut world = World::connecting(settings());
    world.on(|volunteer, now, actions| volunteer.on_open(now, actions));
    world.take_told();
    world.refuse(Refusal::Full { max: 5 });
    let told = world.take_told();
    assert_eq!(told[0].state, State::Restarting);
    world.pass(Duration::from_millis(u64::from(told[0].delay_ms)));
    assert_eq!(world.take_fetches(), [Resource::Description]);
}

#[test]
fn a_volunteer_that_comes_back_to_a_full_server_keeps_what_it_has_finished_and_comes_again() {
    let mut world = World::training(settings());
    world.compute();
    world.pass(2 * world::PERIOD);
    assert_eq!(world.take_contributions(), [1]);
    world.on(|volunteer, now, actions| volunteer.on_closed(now, actions));
    for round in 0..3 {
        world.take_connects();
        while world.take_connects() == 0 {
            world.next_timeout().unwrap();
        }
        world.take_told();
        world.on(|volunteer, now, actions| volunteer.on_open(now, actions));
        world.refuse(Refusal::Full { max: 5 });
        let news = [State::NoRoom];
        assert_eq!(
            world.take_states(),
            news[..usize::from(round == 0)],
            "each change is told once"
        );
        assert!(world.take_endings().is_empty());
    }
    world.take_connects();
    while world.take_connects() == 0 {
        world.next_timeout().unwrap();
    }
    world.take_sent();
    world.welcome();
    let sent = world.take_sent();
    assert!(
        matches!(&sent[0], FromVolunteer::Hello(hello) if hello.session.is_some()),
        "{sent:?}"
    );
    assert_eq!(world.take_states(), [State::Training]);
    assert_eq!(world.take_contributions(), [1], "the same once more");
    world.accept();
    assert_eq!(world.volunteer.accepted_samples(), 8);
}

#[test]
fn starts_that_contribute_nothing_come_less_and_less_often() {
    let mut world = World::training(settings());
    let mut waits = Vec::new();
    for vain_starts in 1..=10 {
        world.take_told();
        let first = world.take_ml_modules()[0];
        world.on(|volunteer, now, actions| volunteer.on_ml_module_died(now, first, actions));
        world.pass(Duration::from_secs(6));
        let told = world.take_told();
        assert_eq!((told[0].state, told[0].vain_starts), (State::Restarting, vain_starts));
        waits.push(told[0].delay_ms);
        world.pass(Duration::from_secs(60));
        world.answer(Resource::Description, Ok(&description_bytes()));
        world.welcome();
    }
    assert!(
        waits[0] <= 2_000 && waits[1] > 2_000 - 1 && waits[3] >= 8_000,
        "{waits:?}"
    );
    assert!(waits[9] >= 30_000 && waits[9] <= 60_000, "{waits:?}");
}

#[test]
fn a_start_that_contributed_was_not_in_vain() {
    let mut world = World::training(Settings {
        vain_starts: 8,
        ..settings()
    });
    world.compute();
    world.pass(2 * world::PERIOD);
    world.accept();
    world.take_told();
    world.refuse(Refusal::AnotherRun);
    let told = world.take_told();
    assert_eq!(told[0].vain_starts, 1);
    assert!(told[0].delay_ms <= 2_000, "{told:?}");
}

#[test]
fn what_was_accepted_is_counted_over_all_starts_also_where_an_ml_module_died() {
    let mut world = World::training(settings());
    for start in 1..=3 {
        world.compute();
        world.pass(2 * world::PERIOD);
        world.accept();
        world.take_told();
        // Two gradients of four samples each.
        assert_eq!(world.volunteer.accepted_samples(), 8 * start);
        let first = world.volunteer.measure_progress(world.now).unwrap();
        assert_eq!(first.accepted, 8, "each start counts its own");
        let (now, number) = (world.now, 3 * (start as usize - 1));
        world.ml_modules.clear();
        world.volunteer.on_ml_module_died(now, number, &mut world.actions);
        world.pass(Duration::from_secs(6));
        let told = world.take_told();
        assert_eq!((told[0].state, told[0].accepted), (State::Restarting, 8));
        world.pass(Duration::from_secs(60));
        world.answer(Resource::Description, Ok(&description_bytes()));
        world.welcome();
        world.answer_shards();
    }
    assert_eq!(world.volunteer.accepted_samples(), 24);
}

#[test]
fn where_new_memory_is_needed_the_loop_ends_with_the_wait_that_it_has_told() {
    let mut world = World::training(Settings {
        vain_starts: 2,
        restarts_here: false,
        ..settings()
    });
    world.take_told();
    world.refuse(Refusal::AnotherRun);
    let told = world.take_told();
    assert_eq!((told[0].state, told[0].vain_starts), (State::Restarting, 3));
    assert!(told[0].delay_ms >= 4_000 && told[0].delay_ms <= 8_000, "{told:?}");
    assert_eq!(world.take_endings(), [Ending::Restarting]);
    assert_eq!(world.volunteer.next_timeout(world.now), None);
}

#[test]
fn after_an_ml_modules_death_only_the_end_is_told() {
    let mut world = World::training(settings());
    world.compute();
    world.actions.clear();
    world.now = world.now + 2 * world::PERIOD;
    world.on(|volunteer, now, actions| {
        volunteer.on_ml_module_died(now, 0, actions);
        volunteer.pause(now, actions);
        volunteer.resume(now, actions);
        volunteer.set_active_ml_modules(now, 3, actions);
        volunteer.set_cpu_percent(now, 10, actions);
        volunteer.leave(now, actions);
        volunteer.on_fetched(now, &second_shard(), Ok(&[]), actions);
        assert_eq!(volunteer.measure_progress(now), None);
    });
    world.accept();
    assert_eq!(world.take_contributions(), [1], "what the others have computed");
    assert!(world.actions.is_empty());
    world.pass(Duration::from_secs(6));
    assert_eq!(world.take_states(), [State::Restarting]);
    assert_eq!(world.take_log(), ["an ML module died"]);
}

#[test]
fn nothing_follows_the_end() {
    let mut world = World::training(settings());
    world.refuse(Refusal::Finished);
    world.actions.clear();
    world.welcome();
    world.on(|volunteer, now, actions| {
        volunteer.on_closed(now, actions);
        volunteer.on_timeout(now, actions);
        volunteer.pause(now, actions);
        volunteer.resume(now, actions);
        volunteer.set_active_ml_modules(now, 3, actions);
        volunteer.set_cpu_percent(now, 10, actions);
        volunteer.leave(now, actions);
        volunteer.on_ml_module_died(now, 1, actions);
        volunteer.on_fetched(now, &Resource::Description, Err(FetchError::Status(500)), actions);
        assert_eq!(volunteer.next_timeout(now), None);
        // The last numbers stay.
        assert!(
            volunteer
                .measure_progress(now)
                .is_some_and(|progress| progress.accepted == 0)
        );
    });
    assert!(world.actions.is_empty());
}
