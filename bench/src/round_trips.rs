//! How long a bare peer waits for an answer of the server: to a hello, and to a contribution in lockstep, with a model
//! of a few bytes and with one of megabytes; and for a small frame right behind that model.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bsp::protocol::message::{Ack, FromCentral, FromVolunteer};
use bsp::shared_memory::ModelStamp;
use tests::peer::{Member, Peer};
use tests::run_file::RunText;
use tests::server::{Serve, Server};

/// Fresh connections, and contributions on the last of them.
const TIMES: usize = 25;

/// What they are called, and the layers of their models over 8×8 pixels.
const MODELS: [(&str, &str); 2] = [
    (
        "small: 650 parameters",
        "[[model.layers]]\nkind = \"flatten\"\n[[model.layers]]\nkind = \"linear\"\noutputs = 10\n",
    ),
    (
        "large: 1,228,810 parameters",
        "[[model.layers]]\nkind = \"flatten\"\n[[model.layers]]\nkind = \"linear\"\noutputs = 16384\n\
         [[model.layers]]\nkind = \"relu\"\n[[model.layers]]\nkind = \"linear\"\noutputs = 10\n",
    ),
];

pub(crate) fn measure() -> Result<String> {
    let mut table = String::from(
        "## Round trips\n\nA bare peer on localhost, in lockstep, `TCP_NODELAY` on its own end; medians (worst) of \
         25 in milliseconds.\n\n\
         | model | hello to welcome | hello to the whole model | contribution to its acknowledgement | contribution to \
         the next model | a model to the welcome right behind it |\n|---|---|---|---|---|---|\n",
    );
    for (name, layers) in MODELS {
        let mut server = Serve::default()
            .run(RunText::digits_in_lockstep()?.with_layers(layers)?)
            .start()?;
        let mut columns: [Vec<Duration>; 5] = Default::default();
        for _ in 0..TIMES {
            let (welcomed, whole) = hello(&server)?;
            columns[0].push(welcomed);
            columns[1].push(whole);
        }
        let Member {
            mut peer,
            welcome,
            mut stamp,
        } = Peer::connect(&server)?.join()?;
        peer.say(&FromVolunteer::Stored(stamp))?;
        let gradient = vec![1e-6; peer.parameters()];
        for sequence in 1..=2 * TIMES as u64 {
            let is_followed_by_hello = sequence > TIMES as u64;
            let mut header = peer.read_out(welcome.session, stamp);
            header.sequence = sequence;
            let began = Instant::now();
            peer.say_contribution(&header, &gradient)?;
            if is_followed_by_hello {
                peer.say(&FromVolunteer::Hello(peer.hello()))?;
            }
            let (acknowledged, next) = answers(&mut peer, began)?;
            let whole = began.elapsed();
            if is_followed_by_hello {
                columns[4].push(welcomed(&mut peer, began)?.saturating_sub(whole));
            } else {
                columns[2].push(acknowledged);
                columns[3].push(whole);
            }
            stamp = next;
            peer.say(&FromVolunteer::Stored(stamp))?;
        }
        server.kill()?;
        write!(table, "| {name} ")?;
        for mut column in columns {
            column.sort();
            let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
            let (median, worst) = (milliseconds(column[TIMES / 2]), milliseconds(column[TIMES - 1]));
            write!(table, "| {median:.2} ({worst:.2}) ")?;
        }
        writeln!(table, "|")?;
    }
    Ok(table)
}

/// Joins on a fresh connection: the time to the welcome, and to the end of the model.
fn hello(server: &Server) -> Result<(Duration, Duration)> {
    let mut peer = Peer::connect(server)?;
    let began = Instant::now();
    peer.say(&FromVolunteer::Hello(peer.hello()))?;
    let mut welcomed = None;
    loop {
        match peer.hear()? {
            Some(FromCentral::Welcome(_)) => welcomed = Some(began.elapsed()),
            Some(FromCentral::StoreModel(_)) => break,
            Some(FromCentral::ReadOutEvery { .. }) => {}
            other => bail!("not welcomed, but {other:?}"),
        }
    }
    let whole = began.elapsed();
    peer.say(&FromVolunteer::Leave)?;
    Ok((welcomed.unwrap_or(whole), whole))
}

/// Waits for a welcome: when it came.
fn welcomed(peer: &mut Peer, began: Instant) -> Result<Duration> {
    loop {
        match peer.hear()? {
            Some(FromCentral::Welcome(_)) => return Ok(began.elapsed()),
            Some(FromCentral::ReadOutEvery { .. }) => {}
            other => bail!("not welcomed again, but {other:?}"),
        }
    }
}

/// Waits until a contribution is acknowledged and the next model is there: when the first was, and that model.
fn answers(peer: &mut Peer, began: Instant) -> Result<(Duration, ModelStamp)> {
    let (mut acknowledged, mut stamp) = (None, None);
    loop {
        match peer.hear()? {
            Some(FromCentral::Ack(Ack { refused, .. })) => {
                ensure!(refused.is_none(), "refused: {refused:?}");
                acknowledged = Some(began.elapsed());
            }
            Some(FromCentral::StoreModel(model)) => stamp = Some(model.stamp),
            Some(FromCentral::ReadOutEvery { .. }) => {}
            other => bail!("no answer to a contribution, but {other:?}"),
        }
        if let (Some(acknowledged), Some(stamp)) = (acknowledged, stamp) {
            return Ok((acknowledged, stamp));
        }
    }
}
