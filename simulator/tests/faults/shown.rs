//! What a page shows of a run.

use bsp::time::Time;
use simulator::fault_run::view::{PhaseView, View, VolunteerState};
use simulator::fault_run::{FaultRun, Phase, Subject};

const END: Time = Time::from_micros(u64::MAX);

fn finished(seed: u64) -> FaultRun {
    let mut run = FaultRun::new(seed);
    run.run_until(END);
    run
}

#[test]
fn however_a_run_is_stepped_it_is_the_same_run() {
    for seed in [0, 5] {
        let at_once = View::of(&finished(seed));
        let mut run = FaultRun::new(seed);
        let mut until = Time::ZERO;
        while !matches!(run.phase(), Phase::Closed(_) | Phase::Violated(_)) {
            // As a page does, at the times of its pictures; sometimes it goes on by single events.
            until = until + std::time::Duration::from_micros(16_667);
            run.run_until(until);
            run.step(END);
            View::of(&run);
        }
        assert_eq!(View::of(&run), at_once, "seed {seed}");
    }
}

#[test]
fn what_a_run_shows_at_its_end_is_what_it_came_to() {
    for seed in 0..40 {
        let run = finished(seed);
        let view = View::of(&run);
        let Phase::Closed(outcome) = run.phase() else {
            panic!("seed {seed}: {:?}", run.phase());
        };
        let books = view.books;
        assert_eq!(
            (view.phase, books.accepted, books.lost, books.to_come_again),
            (PhaseView::Closed, outcome.samples, outcome.lost, 0)
        );
        assert!(view.invariants.iter().all(|invariant| invariant.holds));
        let left = view.volunteers.iter().filter(|v| v.state == VolunteerState::Left);
        for volunteer in left {
            if !books.has_disk_lied && volunteer.lost == 0 {
                assert_eq!(volunteer.told, Some(volunteer.accepted), "seed {seed}");
            }
        }
    }
}

#[test]
fn while_the_server_waits_for_what_it_has_lost_the_books_show_it() {
    let mut most = 0;
    for seed in 0..20 {
        let mut run = FaultRun::new(seed);
        while run.step(Time::from_micros(12_000_000)) {
            let books = View::of(&run).books;
            assert_eq!(books.ever_accepted, books.accepted + books.to_come_again + books.lost);
            most = most.max(books.to_come_again);
        }
    }
    assert!(most > 0, "some crash takes back what was accepted");
}

#[test]
fn the_log_tells_crashes_in_the_middle_of_a_write_torn_files_and_faults_of_links() {
    let mut texts = Vec::new();
    for seed in 0..20 {
        let run = finished(seed);
        let log = run.world().observer.log.entries();
        assert!(
            log.is_sorted_by(|a, b| a.seconds <= b.seconds),
            "seed {seed}: entries are in their order"
        );
        let crashes = log.iter().filter(|entry| entry.subject == Subject::Crash).count() as u64;
        assert!(crashes >= run.world().observer.counts.crashes);
        texts.extend(log.iter().map(|entry| entry.text.clone()));
    }
    for part in [
        "while it was to write checkpoint.part (done in part)",
        "is lost or torn",
        "starts as incarnation 2, from checkpoint",
        "is on the disk for good",
        "The link is cut",
    ] {
        assert!(texts.iter().any(|text| text.contains(part)), "no entry says {part:?}");
    }
}
