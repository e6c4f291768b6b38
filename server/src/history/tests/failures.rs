//! Disks that can't be written, fill up, stand still or go away.

use super::super::writer::Target;
use super::*;

/// A writer on its caller's thread, so that a test says when it writes.
fn writer(path: &Path) -> Writer {
    let (database, kept) = Database::open(path).unwrap();
    Writer {
        kept: Arc::new(Mutex::new(kept)),
        target: Target::File(database),
    }
}

fn take_in(writer: &Writer, versions: std::ops::RangeInclusive<u64>) {
    for version in versions {
        let mut row = bounds_row();
        (row.version, row.samples) = (version, 100 * version);
        writer.take_in(Message::Superstep(row));
    }
}

fn bounds_row() -> SuperstepRow {
    SuperstepRow {
        id: 0,
        incarnation: 1,
        version: 1,
        merged: 1,
        samples: 100,
        elapsed_seconds: 1.0,
        unix_seconds: 1.8e9,
        loss: 1.0,
        superstep_samples: 100,
        open_seconds: 1.0,
        volunteers: 3.0,
        staleness: 0.25,
        refused: 1,
    }
}

fn supersteps(path: &Path) -> f64 {
    number(path, "SELECT count(*) FROM supersteps")
}

#[test]
fn a_place_that_cant_be_written_leaves_the_history_in_memory_and_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    let in_place = folder.path().join("folder");
    std::fs::create_dir(&in_place).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    // Nobody may make a file below /sys, not even a superuser.
    let places = [
        Path::new("/sys/history.sqlite").to_owned(),
        folder.path().join("no/such/folder/history.sqlite"),
        file.join("history.sqlite"),
        in_place,
    ];
    for path in places {
        let (mut history, lines) = logged(|| start(&path, 1, 0));
        let [line] = &lines[..] else {
            panic!("{}: {lines:?}", path.display());
        };
        println!("{line}");
        assert!(
            line.contains(" WARN ") && line.contains(&format!("{}: ", path.display())),
            "{line}"
        );
        assert!(
            line.contains("; ") && line.contains("The history stays in memory"),
            "{line}"
        );
        train(&mut history, 1..=3);
        assert_eq!(samples(&written(&mut history)), [1, 2, 3]);
    }
}

#[test]
fn a_file_that_may_not_be_written_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;

    let (_folder, path) = folder();
    drop(start(&path, 1, 0));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    let may_write = std::fs::OpenOptions::new().write(true).open(&path).is_ok();
    let (_, lines) = logged(|| History::open(Some(&path)));
    // A superuser may write all the same.
    assert_eq!(lines.len(), usize::from(!may_write), "{lines:?}");
    assert!(path.exists());
}

#[test]
fn a_full_disk_is_said_once_and_nothing_is_missing_when_it_has_room_again() {
    let (_folder, path) = folder();
    let mut writer = writer(&path);
    take_in(&writer, 1..=10);
    writer.write();
    let Target::File(database) = &writer.target else {
        panic!("it can be written");
    };
    // SQLite says of a file that may not grow what it says of a full disk.
    database.limit_to_its_pages();
    let ((), lines) = logged(|| {
        for hundred in 0..5 {
            take_in(&writer, 100 * hundred + 11..=100 * hundred + 110);
            if let Target::File(_) = writer.target {
                writer.write();
            }
        }
    });
    println!("{lines:?}");
    assert!(
        lines.len() == 1 && lines[0].contains("is full; free space on its disk"),
        "{lines:?}"
    );
    assert_eq!(Curves::new(&lock(&writer.kept)).loss.last().unwrap().samples, 51_000);
    let ((), lines) = logged(|| writer.write());
    assert!(lines.len() == 1 && lines[0].contains("written again"), "{lines:?}");
    assert_eq!(supersteps(&path), 510.0);
}

#[test]
fn a_folder_that_vanishes_is_said_once_and_is_filled_when_it_is_there_again() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("state");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("history.sqlite");
    let mut writer = writer(&path);
    take_in(&writer, 1..=10);
    writer.write();
    std::fs::remove_dir_all(&inner).unwrap();
    let ((), lines) = logged(|| {
        for version in 11..=20 {
            take_in(&writer, version..=version);
            writer.write();
        }
    });
    assert!(lines.len() == 1 && lines[0].contains("the file is gone"), "{lines:?}");
    std::fs::create_dir(&inner).unwrap();
    take_in(&writer, 21..=21);
    writer.write();
    assert_eq!(supersteps(&path), 21.0);
}

#[test]
fn a_file_that_comes_into_the_place_of_ours_is_left_alone() {
    let (folder, path) = folder();
    let mut writer = writer(&path);
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    std::fs::write(&path, "another").unwrap();
    let ((), lines) = logged(|| {
        for version in 1..=3 {
            take_in(&writer, version..=version);
            writer.write();
        }
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
}

/// The thread stands still, as for a disk that does not answer.
#[test]
fn a_disk_that_stands_still_holds_nothing_up_and_is_said_once() {
    let mut history = History::open(None);
    history.begin(Time::ZERO, stamp(1, 0), 0);
    let kept = Arc::clone(&history.kept);
    let standing_still = lock(&kept);
    let began = Instant::now();
    let ((), lines) = logged(|| {
        for version in 1..=20_000 {
            history.push_superstep(at(1), &closed(version), 100 * version, 1);
        }
        history.flush(Duration::from_millis(50));
    });
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(lines.len() == 1 && lines[0].contains("rows are missing"), "{lines:?}");
    assert!((15_000..20_000).contains(&history.dropped), "{}", history.dropped);
    drop(standing_still);
    history.flush(Duration::from_secs(60));
    history.push_superstep(at(2), &closed(20_001), 2_000_100, 1);
    assert_eq!(
        written(&mut history).loss.last().map(|point| point.samples),
        Some(2_000_100)
    );
}
