//! How much is kept of a run, however long.

use super::super::rows::Row;
use super::*;

/// What a server keeps after this many supersteps, without the thread.
fn push_supersteps(kept: &mut Kept, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        kept.supersteps.push(SuperstepRow {
            id: 0,
            incarnation: 1,
            version,
            merged: 1,
            samples: 100 * version,
            elapsed_seconds: version as f64,
            unix_seconds: 1.8e9,
            loss: version as f64,
            superstep_samples: 100,
            open_seconds: 1.0,
            volunteers: 3.0,
            staleness: 0.25,
            refused: 1,
        });
    }
}

#[test]
fn thinning_keeps_the_beginning_the_end_and_the_sums() {
    const SUPERSTEPS: u64 = 1_000_000;
    let mut kept = Kept::default();
    push_supersteps(&mut kept, 1..=SUPERSTEPS);
    let rows: Vec<_> = kept.supersteps.line().collect();
    assert!(rows.len() <= 2_048 && rows.len() > 1_500, "{}", rows.len());
    assert_eq!(rows[0].version, 1);
    let newest = rows.iter().rev().take(1_024);
    assert!(newest.rev().map(|row| row.version).eq(SUPERSTEPS - 1_023..=SUPERSTEPS));
    assert_eq!(rows.iter().map(|row| row.merged).sum::<u64>(), SUPERSTEPS);
    assert_eq!(
        rows.iter().map(|row| row.superstep_samples).sum::<u64>(),
        100 * SUPERSTEPS
    );
    assert_eq!(rows.iter().map(|row| row.refused).sum::<u64>(), SUPERSTEPS);
    let mean = rows.iter().map(|row| row.loss * row.merged as f64).sum::<f64>() / SUPERSTEPS as f64;
    assert!((mean / ((SUPERSTEPS + 1) as f64 / 2.0) - 1.0).abs() < 1e-9, "{mean}");
    let old = rows.iter().skip(1).map(|row| row.merged).max().unwrap();
    assert!(old <= SUPERSTEPS / 500, "old rows stand for equal numbers: {old}");
}

#[test]
fn a_curve_has_at_most_512_points_from_the_beginning_to_the_end() {
    let mut kept = Kept::default();
    let mut next = 1;
    for supersteps in [0, 1, 2, 511, 512, 513, 1_024, 1_025, 2_049, 10_000, 123_457, 300_000] {
        push_supersteps(&mut kept, next..=supersteps);
        next = supersteps + 1;
        let curve = Curves::new(&kept).loss;
        let fewest = supersteps.min(200) as usize;
        assert!((fewest..=512).contains(&curve.len()), "{supersteps}: {}", curve.len());
        assert!(curve.is_sorted_by(|earlier, later| earlier.samples < later.samples && earlier.loss < later.loss));
        if let (Some(first), Some(last)) = (curve.first(), curve.last()) {
            assert_eq!((first.samples, first.loss, last.samples), (100, 1.0, 100 * supersteps));
        }
    }
}

#[test]
fn points_stay_where_they_are_while_a_curve_grows() {
    let mut kept = Kept::default();
    push_supersteps(&mut kept, 1..=1_100);
    let before = Curves::new(&kept).loss;
    push_supersteps(&mut kept, 1_101..=1_200);
    let after = Curves::new(&kept).loss;
    assert_eq!(before[..before.len() - 1], after[..before.len() - 1]);
}

#[test]
fn the_file_stays_small_however_long_the_run() {
    let (_folder, path) = folder();
    let (mut database, mut kept) = Database::open(&path).unwrap();
    let mut sizes = Vec::new();
    for batch in 0..4_000u64 {
        push_supersteps(&mut kept, 25 * batch + 1..=25 * batch + 25);
        for number in 0..5 {
            let point = EvaluationPoint {
                samples: 5 * batch + number,
                ..evaluation(25 * batch + number)
            };
            let (incarnation, merged, unix_seconds) = (1, 1, 1.8e9);
            kept.evaluations.push(EvaluationRow {
                id: 0,
                incarnation,
                merged,
                unix_seconds,
                point,
            });
            for kind in EventKind::ALL {
                kept.events.push(an_event(kind));
            }
        }
        database.write(&kept.take_changes(false)).unwrap();
        if (batch + 1) % 1_000 == 0 {
            sizes.push(std::fs::metadata(&path).unwrap().len());
        }
    }
    drop(database);
    let size = std::fs::metadata(&path).unwrap().len();
    println!("bytes of the file after 25, 50, 75, 100 thousand supersteps: {sizes:?}, closed {size}");
    assert!(size < 4 << 20, "{size}");
    assert!(sizes[3] * 10 <= sizes[1] * 11, "it does not grow on: {sizes:?}");
    assert!(
        sizes
            .iter()
            .all(|size| *size < super::super::database::MAX_FILE_BYTES / 4)
    );
}

fn an_event(kind: EventKind) -> EventRow {
    EventRow {
        id: 0,
        kind,
        incarnation: 1,
        version: 1,
        samples: 100,
        elapsed_seconds: 1.0,
        unix_seconds: 1.8e9,
        session: Some(1 << 40),
        detail: "a reason that says in a sentence what was wrong, and what fixes it".to_owned(),
    }
}

#[test]
fn volunteers_that_come_and_go_push_no_restart_out() {
    let mut kept = Kept::default();
    kept.events.push(an_event(EventKind::Restart));
    for _ in 0..10_000 {
        kept.events.push(an_event(EventKind::Joined));
        kept.events.push(an_event(EventKind::Left));
    }
    assert_eq!(kept.events.of_kind(EventKind::Restart).count(), 1);
    assert_eq!(kept.events.all().count(), 1 + 2 * 1_024);
    assert_eq!(Curves::new(&kept).events.len(), 1, "the page is told of no volunteer");
}

#[test]
fn lost_rows_are_bounded_too() {
    let mut kept = Kept::default();
    for _ in 0..20 {
        push_supersteps(&mut kept, 101..=300);
        let begin = EventRow {
            version: 100,
            ..an_event(EventKind::Begin)
        };
        kept.begin(begin);
    }
    assert_eq!(
        (kept.supersteps.line().count(), kept.supersteps.lost().count()),
        (0, 1_024)
    );
}

/// The rows that the file holds are those in memory, at every step of thinning and after every loss.
#[test]
fn the_file_holds_what_is_kept() {
    let (_folder, path) = folder();
    let (mut database, mut kept) = Database::open(&path).unwrap();
    let mut version = 1;
    for step in 0..40u64 {
        push_supersteps(&mut kept, version..=version + 180);
        version += 181;
        if step % 7 == 6 {
            version -= 100 * (step / 7);
            let begin = EventRow {
                version: version - 1,
                ..an_event(EventKind::Begin)
            };
            kept.begin(begin);
        }
        database.write(&kept.take_changes(false)).unwrap();
        if step % 5 == 4 {
            drop(database);
            let opened = Database::open(&path).unwrap();
            database = opened.0;
            assert!(opened.1.supersteps.line().eq(kept.supersteps.line()), "{step}");
            let mut lost: Vec<_> = kept.supersteps.lost().cloned().collect();
            lost.sort_by_key(Row::id);
            assert!(opened.1.supersteps.lost().eq(&lost), "{step}");
            assert!(opened.1.events.all().eq(kept.events.all()), "{step}");
            kept = opened.1;
        }
    }
}

/// `cargo test --release --package server -- --ignored --nocapture what_the_history_costs`
#[test]
#[ignore = "a measurement"]
fn what_the_history_costs() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    let mut pushes = Vec::new();
    for version in 1..=20_000u64 {
        let closed = closed(version);
        let began = Instant::now();
        history.push_superstep(at(version), &closed, 100 * version, 2);
        pushes.push(began.elapsed());
        if version % 10 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    pushes.sort();
    let part = |share: f64| pushes[((pushes.len() - 1) as f64 * share) as usize];
    println!(
        "a push: median {:?}, 99 % {:?}, longest {:?}",
        part(0.5),
        part(0.99),
        part(1.0)
    );
    println!("dropped: {}", history.dropped);
    let began = Instant::now();
    for _ in 0..100 {
        std::hint::black_box(history.reader().curves());
    }
    println!("curves: {:?}", began.elapsed() / 100);
    let curves = history.reader().curves();
    println!("curves in JSON: {} bytes", serde_json::to_vec(&curves).unwrap().len());
    let began = Instant::now();
    written(&mut history);
    println!("flush: {:?}", began.elapsed());
    drop(history);
    thread::sleep(Duration::from_millis(200));
    let bytes = std::fs::metadata(&path).unwrap().len();
    let rows = number(&path, "SELECT count(*) FROM supersteps");
    println!("{bytes} bytes, {rows} rows, {:.0} bytes a row", bytes as f64 / rows);
    let began = Instant::now();
    drop(History::open(Some(&path)));
    println!("opened in {:?}", began.elapsed());

    let (_folder, path) = folder();
    let (mut database, mut kept) = Database::open(&path).unwrap();
    for (begin, end) in [(1, 2_000), (2_001, 50_000)] {
        push_supersteps(&mut kept, begin..=end);
        database.write(&kept.take_changes(false)).unwrap();
        push_supersteps(&mut kept, end + 1..=end + 20);
        let began = Instant::now();
        database.write(&kept.take_changes(false)).unwrap();
        println!("a batch of 20 supersteps after {end}: {:?}", began.elapsed());
    }
}
