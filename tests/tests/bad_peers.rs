//! A peer may send anything: it gets one clear reason, the log names it once, and the run goes on.

use anyhow::{Context, Result, ensure};
use bsp::protocol::message::{
    Contribution, ContributionRefusal, FromCentral, FromVolunteer, Hello, PROTOCOL, Refusal, RunId, SessionId,
};
use bsp::shared_memory::ModelStamp;
use bytes::Bytes;
use tests::native_volunteer::native_volunteer;
use tests::peer::{Member, Peer};
use tests::program::Program;
use tests::server::{Serve, Server};
use tests::wait::wait_for;
use tokio_tungstenite::tungstenite::Message;

/// A server, and a native volunteer that trains on it.
struct Busy {
    server: Server,
    volunteer: u64,
    _native: Program,
}

impl Busy {
    fn start() -> Result<Busy> {
        let server = Serve::default().start()?;
        let native = native_volunteer(server.url())?;
        let volunteer = server.wait_for_contributors(1)?[0].id;
        Ok(Busy {
            server,
            volunteer,
            _native: native,
        })
    }

    /// The log has one line about this peer, which says why; and the other volunteer trains.
    fn expect_one_line_and_go_on(&self, peer: &str, why: &str) -> Result<()> {
        let lines_about_peer = || -> Vec<String> {
            self.server
                .log()
                .into_iter()
                .filter(|line| line.contains(peer))
                .collect()
        };
        wait_for("a line about the peer", || {
            Ok((!lines_about_peer().is_empty()).then_some(()))
        })?;
        self.server.wait_for_more_of(self.volunteer)?;
        let lines = lines_about_peer();
        ensure!(
            lines.len() == 1 && lines[0].contains(why),
            "the log says of {peer}: {lines:#?}, not {why:?}"
        );
        Ok(())
    }

    /// A peer that is turned away, because of what `misbehave` sends.
    fn expect_turned_away(
        &self,
        misbehave: impl FnOnce(&mut Peer) -> Result<()>,
        is_right: impl FnOnce(&Refusal) -> bool,
    ) -> Result<()> {
        let mut peer = Peer::connect(&self.server)?;
        let address = peer.address()?.to_string();
        misbehave(&mut peer)?;
        let refusal = match peer.hear()? {
            Some(FromCentral::Refused(refusal)) => refusal,
            other => anyhow::bail!("not refused, but {other:?}"),
        };
        ensure!(is_right(&refusal), "refused because {refusal}");
        ensure!(peer.hear()?.is_none(), "the socket stays open after {refusal}");
        self.expect_one_line_and_go_on(&format!("{address}:"), &refusal.to_string())
    }

    fn expect_hello_turned_away(
        &self,
        change: impl FnOnce(&mut Hello),
        is_right: impl FnOnce(&Refusal) -> bool,
    ) -> Result<()> {
        let say = |peer: &mut Peer| {
            let mut hello = peer.hello();
            change(&mut hello);
            peer.say(&FromVolunteer::Hello(hello))
        };
        self.expect_turned_away(say, is_right)
    }

    /// A member whose contribution is refused, because of what `change` does to it. It stays a member.
    fn expect_contribution_refused(
        &self,
        change: impl FnOnce(&mut Contribution, &mut Vec<f32>),
        is_right: impl FnOnce(&ContributionRefusal) -> bool,
    ) -> Result<()> {
        let Member {
            mut peer,
            welcome,
            stamp,
        } = Peer::connect(&self.server)?.join()?;
        let mut gradient = vec![0.5; peer.parameters()];
        let mut header = peer.read_out(welcome.session, stamp);
        change(&mut header, &mut gradient);
        peer.say_contribution(&header, &gradient)?;
        let ack = loop {
            match peer.hear()?.context("the socket was closed")? {
                FromCentral::Ack(ack) => break ack,
                FromCentral::StoreModel(_) | FromCentral::ReadOutEvery { .. } => {}
                other => anyhow::bail!("not acknowledged, but {other:?}"),
            }
        };
        ensure!(ack.through == 1, "{ack:?}");
        let refusal = ack.refused.context("it was accepted")?;
        ensure!(is_right(&refusal), "refused because {refusal}");
        let session = welcome.session.0;
        self.expect_one_line_and_go_on(&format!("volunteer {session}:"), &refusal.to_string())?;
        let entry = self
            .server
            .volunteers()?
            .into_iter()
            .find(|volunteer| volunteer.id == session);
        ensure!(
            entry.is_some_and(|entry| entry.samples == 0),
            "it was counted: {entry:?}"
        );
        Ok(())
    }
}

#[test]
fn what_is_not_a_message_is_refused_and_the_others_go_on() -> Result<()> {
    let busy = Busy::start()?;
    let is_malformed = |refusal: &Refusal| matches!(refusal, Refusal::Malformed(_));
    // Random bytes, a header that is longer than the frame, nothing at all, and a text.
    let frames = [
        Message::Binary(Bytes::from_static(b"\xff\xfe\xfd\xfc\xfb and so on")),
        Message::Binary(Bytes::from_static(&[200, 0, 0, 0, 1, 2, 3])),
        Message::Binary(Bytes::new()),
        Message::text("GET / HTTP/1.1"),
    ];
    for frame in frames {
        busy.expect_turned_away(|peer| peer.send(frame), is_malformed)?;
    }
    // A message of the protocol, with a payload that no such message has.
    let with_payload = |peer: &mut Peer| {
        let mut frame = FromVolunteer::Hello(peer.hello()).encode().to_vec();
        frame.extend([0; 4]);
        peer.send(Message::Binary(frame.into()))
    };
    busy.expect_turned_away(with_payload, is_malformed)
}

#[test]
fn a_frame_that_is_too_long_ends_its_socket_and_the_others_go_on() -> Result<()> {
    let busy = Busy::start()?;
    let mut peer = Peer::connect(&busy.server)?;
    let address = peer.address()?.to_string();
    let frame = vec![0; peer.max_frame_bytes() + 1];
    // The server closes before all of it has left.
    let _ = peer.send(Message::Binary(frame.into()));
    ensure!(peer.hear()?.is_none(), "the socket stays open");
    busy.expect_one_line_and_go_on(&format!("{address}:"), "too long")
}

#[test]
fn a_hello_for_another_run_or_session_is_refused_and_the_others_go_on() -> Result<()> {
    let busy = Busy::start()?;
    let theirs = PROTOCOL + 1;
    busy.expect_hello_turned_away(
        |hello| hello.protocol = theirs,
        |refusal| *refusal == Refusal::Protocol { theirs, ours: PROTOCOL },
    )?;
    busy.expect_hello_turned_away(
        |hello| hello.run = RunId(hello.run.0 ^ 1),
        |refusal| *refusal == Refusal::AnotherRun,
    )?;
    busy.expect_hello_turned_away(
        |hello| hello.spec_hash ^= 1,
        |refusal| *refusal == Refusal::AnotherModel,
    )?;
    // The other volunteer's session, without its proof.
    let session = SessionId(busy.volunteer);
    busy.expect_hello_turned_away(
        |hello| hello.session = Some((session, bsp::protocol::message::Token(0))),
        |refusal| *refusal == Refusal::SessionOver(session),
    )?;
    let read_out_first = |peer: &mut Peer| {
        let header = peer.read_out(
            session,
            ModelStamp {
                incarnation: 1,
                version: 0,
            },
        );
        peer.say_contribution(&header, &vec![0.0; peer.parameters()])
    };
    busy.expect_turned_away(read_out_first, |refusal| *refusal == Refusal::HelloFirst)
}

#[test]
fn a_gradient_that_cannot_be_is_refused_and_the_others_go_on() -> Result<()> {
    // A run for each: the log mentions one refused contribution in ten seconds.
    Busy::start()?.expect_contribution_refused(
        |_, gradient| gradient.truncate(10),
        |refusal| matches!(refusal, ContributionRefusal::WrongLength { got: 40, .. }),
    )?;
    for bad in [f32::NAN, f32::INFINITY] {
        Busy::start()?.expect_contribution_refused(
            |_, gradient| gradient[7] = bad,
            |refusal| *refusal == ContributionRefusal::NotFinite,
        )?;
    }
    Busy::start()?.expect_contribution_refused(
        |header, _| header.loss_sum = f64::NAN,
        |refusal| *refusal == ContributionRefusal::NotFinite,
    )?;
    Busy::start()?.expect_contribution_refused(
        |header, _| header.samples = 0,
        |refusal| matches!(refusal, ContributionRefusal::Implausible { .. }),
    )
}

#[test]
fn a_peer_that_reads_nothing_and_says_that_it_stores_every_model_is_given_up() -> Result<()> {
    let busy = Busy::start()?;
    let Member { mut peer, stamp, .. } = Peer::connect(&busy.server)?.join()?;
    let address = peer.address()?.to_string();
    let mut next = stamp.version;
    wait_for("the end of its link", || {
        let newest = busy.server.version()?;
        for version in next..=newest {
            let stamp = ModelStamp { version, ..stamp };
            // One that fails: the socket is closed.
            if peer.say(&FromVolunteer::Stored(stamp)).is_err() {
                return Ok(Some(()));
            }
        }
        next = newest + 1;
        let is_named = busy.server.log().iter().any(|line| line.contains(&address));
        Ok(is_named.then_some(()))
    })?;
    busy.expect_one_line_and_go_on(&format!("{address}:"), "it does not read")
}
