use super::*;
use crate::checkpoint::tests::checkpoint;
use crate::identity::tests::identity;
use crate::open::{Opened, open_on};
use crate::test_disk::TestDisk;

fn open(disk: &mut TestDisk) -> Opened {
    let secrets = identity().secrets;
    open_on(disk, &identity().run, &mut || secrets, &|_, _| Vec::new(), 5_000).expect("opens")
}

/// The checkpoint of this number of an incarnation.
fn numbered(incarnation: u32, number: u64) -> Checkpoint {
    let mut checkpoint = checkpoint();
    checkpoint.number = number;
    checkpoint.trainer.incarnation = incarnation;
    checkpoint.trainer.version = 10 * u64::from(incarnation) + number;
    checkpoint
}

fn write(disk: &mut TestDisk, opened: &Opened, number: u64) -> Result<Written, DiskError> {
    let checkpoint = numbered(opened.incarnation, number);
    let mut newest = opened.newest.clone();
    newest.point_to(&checkpoint);
    let about = opened.identity.about(opened.incarnation);
    write_checkpoint(disk, &about, &checkpoint, &newest, 2)
}

#[test]
fn a_crash_at_any_step_leaves_the_checkpoint_before_or_the_new_one() {
    for keeps_unsynced in [false, true] {
        let mut was_durable = false;
        for operations in 0.. {
            let mut disk = TestDisk::default();
            let opened = open(&mut disk);
            (1..=3).for_each(|number| assert!(write(&mut disk, &opened, number).is_ok()));
            disk.fail_after(operations);
            let is_durable = write(&mut disk, &opened, 4).is_ok();
            let is_over = is_durable && disk.names().len() == 4;
            disk.crash(keeps_unsynced);
            let again = open(&mut disk);
            assert_eq!(again.incarnation, 2);
            assert!(again.warnings.is_empty(), "{:?}", again.warnings);
            let version = again.checkpoint.expect("one is there").trainer.version;
            assert!(
                version == 14 || (version == 13 && !is_durable),
                "after {operations} operations"
            );
            was_durable |= is_durable;
            if is_over {
                break;
            }
            assert!(operations < 30, "the writing ends");
        }
        assert!(was_durable);
    }
}

#[test]
fn a_crash_at_any_step_of_the_start_leaves_a_run_that_starts() {
    for keeps_unsynced in [false, true] {
        for operations in 0..8 {
            let mut disk = TestDisk::default();
            disk.fail_after(operations);
            let secrets = identity().secrets;
            let wanted = identity().run;
            let opened = open_on(&mut disk, &wanted, &mut || secrets, &|_, _| Vec::new(), 5_000);
            disk.crash(keeps_unsynced);
            let again = open(&mut disk);
            // What was served as incarnation 1 is never served as that again.
            let least = if opened.is_ok() { 2 } else { 1 };
            assert!(again.incarnation >= least, "after {operations} operations");
        }
    }
}

#[test]
fn an_incarnation_is_never_used_twice_even_if_the_pointer_is_an_old_one() {
    let mut disk = TestDisk::default();
    let opened = open(&mut disk);
    write(&mut disk, &opened, 1).expect("writes");
    let old = disk.read(newest::FILE).expect("reads");
    let opened = open(&mut disk);
    write(&mut disk, &opened, 1).expect("writes");
    disk.change(newest::FILE, |json| *json = old);
    let opened = open(&mut disk);
    assert_eq!(opened.incarnation, 3);
    assert_eq!(opened.checkpoint.expect("the newest").trainer.version, 21);
    disk.change(newest::FILE, Vec::clear);
    let opened = open(&mut disk);
    assert_eq!(opened.checkpoint.expect("the newest").trainer.version, 21);
    assert!(
        opened.warnings[0].contains("newest.json: is damaged"),
        "{:?}",
        opened.warnings
    );
}

#[test]
fn an_incarnation_that_wrote_nothing_is_never_used_twice_even_if_its_pointer_is_lost() {
    let mut disk = TestDisk::default();
    open(&mut disk);
    let old = disk.read(newest::FILE).expect("reads");
    assert_eq!(open(&mut disk).incarnation, 2);
    disk.change(newest::FILE, |json| *json = old);
    assert_eq!(open(&mut disk).incarnation, 3);
    disk.remove(newest::FILE).expect("removes");
    assert_eq!(open(&mut disk).incarnation, 4);
}

#[test]
fn the_last_two_stay_and_with_them_the_ledgers_that_they_need() {
    let mut disk = TestDisk::default();
    let opened = open(&mut disk);
    for number in 0..5 {
        if number > 0 {
            write(&mut disk, &opened, number).expect("writes");
        }
        let ledger = Snapshot {
            incarnation: opened.incarnation,
            number,
        };
        disk.append(&ledger.ledger_file(), b"record").expect("writes");
    }
    let expected = [
        "checkpoint-1-3.superstep",
        "checkpoint-1-4.superstep",
        "ledger-1-3",
        "ledger-1-4",
        "newest.json",
        "run.json",
    ];
    assert_eq!(disk.names(), expected);
}

#[test]
fn a_damaged_newest_one_is_named_and_the_one_before_is_used_and_both_stay() {
    let mut disk = TestDisk::default();
    let opened = open(&mut disk);
    (1..=2).for_each(|number| assert!(write(&mut disk, &opened, number).is_ok()));
    disk.change("checkpoint-1-2.superstep", |bytes| bytes[600] ^= 1);
    let opened = open(&mut disk);
    assert_eq!(opened.checkpoint.as_ref().map(|c| c.number), Some(1));
    let expected = "state/digits/checkpoint-1-2.superstep: its part \"";
    assert!(opened.warnings[0].starts_with(expected), "{:?}", opened.warnings);
    assert_eq!(
        opened.warnings[1],
        "state/digits/checkpoint-1-1.superstep: the run goes on from here"
    );
    // The damaged one is not counted among the last two, and never removed.
    for number in 1..4 {
        write(&mut disk, &opened, number).expect("writes");
    }
    let again = open(&mut disk);
    assert!(again.warnings.is_empty());
    write(&mut disk, &again, 1).expect("writes");
    let checkpoints = disk.names().into_iter().filter(|name| name.starts_with("checkpoint"));
    let expected = [
        "checkpoint-1-2.superstep",
        "checkpoint-2-3.superstep",
        "checkpoint-3-1.superstep",
    ];
    assert!(checkpoints.eq(expected));
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before_and_no_unfinished_file() {
    let mut disk = TestDisk::default();
    let opened = open(&mut disk);
    write(&mut disk, &opened, 1).expect("writes");
    disk.limit_room(Some(400));
    let error = write(&mut disk, &opened, 2).expect_err("full").to_string();
    assert_eq!(
        error,
        "state/digits/checkpoint.part: can't be written: no storage space; make room on its disk"
    );
    assert_eq!(disk.names(), ["checkpoint-1-1.superstep", "newest.json", "run.json"]);
    disk.limit_room(None);
    write(&mut disk, &opened, 2).expect("there is room again");
}
