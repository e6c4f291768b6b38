//! Files that are damaged, foreign or newer: set aside, named, and the run goes on.

use super::*;

/// A file that a server has left after ten supersteps.
fn left_by_a_server() -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    let mut history = start(&path, 1, 0);
    train(&mut history, 1..=10);
    history.push_evaluation(&evaluation(9));
    written(&mut history);
    drop(history);
    // The file is closed when its thread has ended.
    let wal = set_aside::with_end(&path, "-wal");
    while wal.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    (folder, path)
}

/// Opens what was damaged: the file is set aside as this word says, unchanged and named in one warning, and the run
/// goes on with a new history that is written.
fn is_set_aside(folder: &TempDir, path: &Path, word: &str) {
    let damaged = std::fs::read(path).unwrap();
    let (mut history, lines) = logged(|| start(path, 2, 10));
    let names = names_in(folder, &format!("history.sqlite.{word}-"));
    let [name] = &names[..] else {
        panic!("{names:?}, {lines:?}");
    };
    assert_eq!(std::fs::read(folder.path().join(name)).unwrap(), damaged);
    let [line] = &lines[..] else {
        panic!("one line says so: {lines:?}");
    };
    assert!(
        line.contains(" WARN ") && line.contains(&format!("{}: ", path.display())),
        "{line}"
    );
    assert!(line.contains(name), "{line}");
    train(&mut history, 11..=12);
    assert_eq!(samples(&written(&mut history)), [11, 12]);
    drop(history);
    assert_eq!(
        samples(&start(path, 3, 12).reader().curves()),
        [11, 12],
        "the new file is good"
    );
}

#[test]
fn an_empty_file_is_set_aside() {
    let (folder, path) = left_by_a_server();
    std::fs::write(&path, []).unwrap();
    is_set_aside(&folder, &path, "corrupt");
}

#[test]
fn garbage_is_set_aside() {
    for length in [1, 100, 5_000] {
        let (folder, path) = left_by_a_server();
        std::fs::write(&path, (0..length).map(|byte| (byte * 7 + 1) as u8).collect::<Vec<u8>>()).unwrap();
        is_set_aside(&folder, &path, "corrupt");
    }
}

#[test]
fn a_file_that_was_cut_short_is_set_aside() {
    for length in [15, 16, 99, 100, 512, 4_095, 4_096, 5_000, 8_192] {
        let (folder, path) = left_by_a_server();
        let whole = std::fs::read(&path).unwrap();
        assert!(whole.len() > length);
        std::fs::write(&path, &whole[..length]).unwrap();
        is_set_aside(&folder, &path, "corrupt");
    }
}

#[test]
fn another_programs_database_is_set_aside() {
    let (folder, path) = folder();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("CREATE TABLE supersteps (id INTEGER PRIMARY KEY); PRAGMA user_version = 1;")
        .unwrap();
    drop(connection);
    is_set_aside(&folder, &path, "foreign");
}

#[test]
fn a_database_with_a_table_too_many_is_set_aside() {
    let (folder, path) = left_by_a_server();
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE more (id)")
        .unwrap();
    is_set_aside(&folder, &path, "foreign");
}

#[test]
fn a_file_that_is_too_large_for_a_history_is_not_read() {
    let (folder, path) = left_by_a_server();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(33 << 20)
        .unwrap();
    is_set_aside(&folder, &path, "foreign");
}

#[test]
fn a_newer_file_is_set_aside_and_both_versions_are_named() {
    let (folder, path) = left_by_a_server();
    Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 2")
        .unwrap();
    let (_, lines) = logged(|| History::open(Some(&path)));
    assert!(
        lines[0].contains("schema version 2") && lines[0].contains("reads version 1"),
        "{lines:?}"
    );
    assert_eq!(names_in(&folder, "history.sqlite.newer-").len(), 1);
}

#[test]
fn a_log_without_its_file_is_set_aside() {
    let (folder, path) = folder();
    std::fs::write(folder.path().join("history.sqlite-wal"), "a part of a history").unwrap();
    let (mut history, lines) = logged(|| start(&path, 1, 0));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(names_in(&folder, "history.sqlite.corrupt-").len(), 1);
    train(&mut history, 1..=2);
    assert_eq!(samples(&written(&mut history)), [1, 2]);
}

#[test]
fn two_files_that_are_set_aside_at_once_have_two_names() {
    let (folder, path) = folder();
    for content in ["first", "second", "third"] {
        std::fs::write(&path, content).unwrap();
        set_aside::set_aside(&path, "corrupt").unwrap();
    }
    assert_eq!(names_in(&folder, "history.sqlite.corrupt-").len(), 3);
}

/// Whichever byte of the header is flipped, the server starts with the rows that it had or with a new history beside
/// the old file, and what it then writes is there after the next start.
#[test]
fn one_flipped_byte_in_the_header_ends_no_run() {
    let (left, left_path) = left_by_a_server();
    let whole = std::fs::read(&left_path).unwrap();
    drop(left);
    let mut set_aside = 0;
    for index in 0..100 {
        for flip in [0x01, 0xff] {
            let (folder, path) = folder();
            let mut damaged = whole.clone();
            damaged[index] ^= flip;
            std::fs::write(&path, &damaged).unwrap();
            let (mut history, lines) = logged(|| start(&path, 2, 10));
            train(&mut history, 11..=12);
            let curves = written(&mut history);
            drop(history);
            let aside = names_in(&folder, "history.sqlite.")
                .iter()
                .filter(|name| name.contains('T'))
                .count();
            set_aside += aside;
            assert_eq!(lines.len(), aside, "{index} {flip:#x}: {lines:?}");
            let expected = Vec::from_iter(if aside > 0 { 11..=12 } else { 1..=12 });
            assert_eq!(samples(&curves), expected, "{index} {flip:#x}");
            let again = start(&path, 3, 12).reader().curves();
            assert_eq!(samples(&again), expected, "{index} {flip:#x}");
        }
    }
    assert!(set_aside > 60, "{set_aside}");
}

/// Anywhere else a flip changes a number, or it is noticed; no run ends of it.
#[test]
fn one_flipped_byte_anywhere_ends_no_run() {
    let (left, left_path) = left_by_a_server();
    let whole = std::fs::read(&left_path).unwrap();
    drop(left);
    for index in (100..whole.len()).step_by(97) {
        let (_folder, path) = folder();
        let mut damaged = whole.clone();
        damaged[index] ^= 0xff;
        std::fs::write(&path, &damaged).unwrap();
        let (mut history, lines) = logged(|| start(&path, 2, 20));
        assert!(lines.len() <= 1, "{index}: {lines:?}");
        train(&mut history, 21..=22);
        let curves = written(&mut history);
        assert!(samples(&curves).ends_with(&[21, 22]), "{index}: {curves:?}");
    }
}
