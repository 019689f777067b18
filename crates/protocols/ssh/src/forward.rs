//! Forwardings: every kind is a permission of its own, off unless the target allows it, and each connection through one
//! is an entry with its endpoints and its bytes.

use std::cell::Cell;
use std::time::Duration;

use russh::client::{Handle, Msg as TargetMsg};
use russh::server::Msg as ClientMsg;
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelWriteHalf};
use session::{Cleared, Guarded, NotRecorded, Permit};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trail::record::OutcomeRecord;
use vocabulary::Status;

use crate::client_side::{ClientChannel, Listens, Wish};
use crate::command::Asking;
use crate::inbox::Event;
use crate::join;
use crate::keep::Keep;
use crate::outflow::{Outflow, Thirst};
use crate::relay::{Reading, left};
use crate::upstream::{Incoming, TargetSide};
use crate::visit::{Client, Opens, Verdict, Visit, outcome};

/// The privileges that a target can grant, by name.
pub(crate) const AGENT: &str = "agent-forward";
pub(crate) const X11: &str = "x11-forward";
const LOCAL: &str = "local-forward";
const REMOTE: &str = "remote-forward";
const LOCAL_STREAM: &str = "local-streamlocal";
const REMOTE_STREAM: &str = "remote-streamlocal";

/// How long a target may take to listen for a client, or to stop that, connecting included: meanwhile the whole connection
/// of the client waits.
const LISTEN_TIME: Duration = Duration::from_secs(10);

/// Whether a forwarding may be: by the target's privileges first, then by policy. A refusal is recorded.
pub(crate) async fn allowed(
    visit: &Visit,
    privilege: &str,
    what: &str,
) -> Result<Result<(Permit, Cleared), String>, NotRecorded> {
    let asking = Asking::of_forwarding(what);
    match ungranted(visit, privilege, &asking).await? {
        Some(why) => Ok(Err(why)),
        None => visit.judge(&asking, &Client::Nobody).await.map(permitted),
    }
}

/// As [`allowed`], for what the client's whole connection waits for: nobody is waited for.
async fn allowed_at_once(
    visit: &Visit,
    privilege: &str,
    what: &str,
) -> Result<Result<(Permit, Cleared), String>, NotRecorded> {
    let asking = Asking::of_forwarding(what);
    match ungranted(visit, privilege, &asking).await? {
        Some(why) => Ok(Err(why)),
        None => visit.judge_at_once(&asking).await.map(permitted),
    }
}

fn permitted(verdict: Verdict) -> Result<(Permit, Cleared), String> {
    match verdict {
        Verdict::Permit(permit, cleared) => Ok((permit, cleared)),
        Verdict::Refused(sentence, _) => Err(sentence),
    }
}

/// Why the target does not grant it, if it does not; recorded.
async fn ungranted(visit: &Visit, privilege: &str, asking: &Asking) -> Result<Option<String>, NotRecorded> {
    if visit.target.allow.contains(privilege) {
        return Ok(None);
    }
    let why = format!(
        "forwarding is off for the target `{}`: it needs `target add … --allow {privilege}`",
        visit.target.name
    );
    visit.deny(asking, &why).await?;
    Ok(Some(why))
}

/// Does what a client wishes that is not a program.
///
/// # Errors
/// When the trail can't take a record.
pub(crate) async fn fulfil(visit: &Visit, wish: Wish) -> Result<(), NotRecorded> {
    match wish {
        Wish::Program { .. } => Ok(()),
        Wish::DirectTcp { channel, reply, to: (host, port), originator } => {
            let what = format!("local:{host}:{port}");
            let Ok((permit, cleared)) = allowed(visit, LOCAL, &what).await? else {
                reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
                return Ok(());
            };
            if let Some(served) = join::served(visit, &host, port).await {
                match TcpStream::connect(served.listener).await {
                    Ok(stream) => {
                        reply.accept().await;
                        return join::carry(visit, &channel, permit, stream, &served.name).await;
                    }
                    Err(error) => {
                        reply.reject(ChannelOpenFailure::ConnectFailed).await;
                        return failed(visit, permit, &error.to_string()).await;
                    }
                }
            }
            let lent = match visit.connection().await {
                Ok(lent) => lent,
                Err(error) => {
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                    return failed(visit, permit, &error.to_string()).await;
                }
            };
            let handle = &lent.connection.handle;
            match handle.channel_open_direct_tcpip(host, port, originator.0, originator.1).await {
                Ok(target) => {
                    reply.accept().await;
                    carry(visit, &channel, permit, cleared, target).await?;
                    visit.give_back(lent);
                    Ok(())
                }
                Err(error) => {
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                    failed(visit, permit, &error.to_string()).await
                }
            }
        }
        Wish::DirectStreamlocal { channel, reply, path } => {
            let Ok((permit, cleared)) = allowed(visit, LOCAL_STREAM, &format!("local:{path}")).await? else {
                reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
                return Ok(());
            };
            let lent = match visit.connection().await {
                Ok(lent) => lent,
                Err(error) => {
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                    return failed(visit, permit, &error.to_string()).await;
                }
            };
            match lent.connection.handle.channel_open_direct_streamlocal(path).await {
                Ok(target) => {
                    reply.accept().await;
                    carry(visit, &channel, permit, cleared, target).await?;
                    visit.give_back(lent);
                    Ok(())
                }
                Err(error) => {
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                    failed(visit, permit, &error.to_string()).await
                }
            }
        }
        Wish::ListenTcp { at: (host, port), answer } => {
            let what = format!("remote:{host}:{port}");
            let given =
                listen(visit, REMOTE, &what, port, async |target| target.tcpip_forward(host, port).await);
            drop(answer.send(given.await?));
            Ok(())
        }
        Wish::ListenStreamlocal { path, answer } => {
            let what = format!("remote:{path}");
            let given = listen(visit, REMOTE_STREAM, &what, 0, async |target| {
                target.streamlocal_forward(path).await.map(|()| 0)
            });
            drop(answer.send(given.await?));
            Ok(())
        }
        Wish::CancelTcp { at: (host, port), answer } => {
            let over = cancel(visit, async |target| target.cancel_tcpip_forward(host, port).await);
            drop(answer.send(over.await));
            Ok(())
        }
        Wish::CancelStreamlocal { path, answer } => {
            let over = cancel(visit, async |target| target.cancel_streamlocal_forward(path).await);
            drop(answer.send(over.await));
            Ok(())
        }
    }
}

/// Has the target listen for the client. `port` is the one that was asked for.
async fn listen(
    visit: &Visit,
    privilege: &str,
    what: &str,
    port: u32,
    ask: impl AsyncFnOnce(&Handle<TargetSide>) -> Result<u32, russh::Error>,
) -> Result<Listens, NotRecorded> {
    let (permit, _) = match allowed_at_once(visit, privilege, what).await? {
        Ok(allowed) => allowed,
        Err(sentence) => return Ok(Err(sentence)),
    };
    let asked = Cell::new(false);
    let listens = async {
        let listening = visit.listening().await.map_err(|error| format!("{error}; {}", error.advice()))?;
        asked.set(true);
        ask(listening.handle()).await.map_err(|error| format!("the target does not listen: {error}"))
    };
    match timeout(LISTEN_TIME, listens).await {
        Ok(Ok(given)) => {
            // The port that the target chose, or the one that was asked for.
            let port = if given == 0 { port } else { given };
            let message = (port > 0).then(|| format!("the target listens on port {port}"));
            done(visit, permit, message.as_deref()).await?;
            Ok(Ok(port))
        }
        Ok(Err(why)) => failed(visit, permit, &why).await.map(|()| Err(why)),
        Err(_) => {
            let why = silent();
            if asked.get() {
                let record =
                    OutcomeRecord { executed: None, message: Some(&why), ..outcome(Status::Unknown) };
                visit.observe(permit, record).await?;
            } else {
                failed(visit, permit, &why).await?;
            }
            Ok(Err(why))
        }
    }
}

/// Has the target listen no longer.
async fn cancel(
    visit: &Visit,
    ask: impl AsyncFnOnce(&Handle<TargetSide>) -> Result<(), russh::Error>,
) -> Listens {
    let Some(listening) = visit.is_listening() else { return Err("the target does not listen".to_owned()) };
    match timeout(LISTEN_TIME, ask(listening.handle())).await {
        Ok(Ok(())) => Ok(0),
        Ok(Err(error)) => Err(format!("the target goes on listening: {error}")),
        Err(_) => Err(silent()),
    }
}

fn silent() -> String {
    format!("the target did not answer within {} s", LISTEN_TIME.as_secs())
}

/// Takes what the target opens towards the client, for as long as it does.
///
/// # Errors
/// When the trail can't take a record.
pub(crate) async fn incoming(
    visit: &Visit,
    Opens { mut channels, agent, x11 }: Opens,
) -> Result<(), NotRecorded> {
    use futures_util::StreamExt;
    let mut running = futures_util::stream::FuturesUnordered::new();
    loop {
        tokio::select! {
            incoming = channels.recv() => match incoming {
                Some(incoming) => running.push(Box::pin(one(visit, incoming, agent, x11))),
                None => break,
            },
            Some(ended) = running.next(), if !running.is_empty() => ended?,
            () = visit.until_over() => break,
        }
    }
    // What is open already comes to its own end.
    while let Some(ended) = running.next().await {
        ended?;
    }
    Ok(())
}

/// One channel that the target opened.
async fn one(visit: &Visit, incoming: Incoming, agent: bool, x11: bool) -> Result<(), NotRecorded> {
    let (what, privilege, allowed_here) = match &incoming {
        Incoming::Tcp { connected: (host, port), originator: (from, from_port), .. } => {
            (format!("remote:{host}:{port} from {from}:{from_port}"), REMOTE, true)
        }
        Incoming::Streamlocal { path, .. } => (format!("remote:{path}"), REMOTE_STREAM, true),
        Incoming::Agent { .. } => ("agent".to_owned(), AGENT, agent),
        Incoming::X11 { .. } => ("x11".to_owned(), X11, x11),
    };
    // Dropping the reply refuses the channel.
    if !allowed_here {
        return Ok(());
    }
    let Ok((permit, cleared)) = allowed(visit, privilege, &what).await? else { return Ok(()) };
    let client = &visit.client;
    let (channel, reply, opened) = match incoming {
        Incoming::Tcp { channel, reply, connected, originator } => {
            let opened =
                client.channel_open_forwarded_tcpip(connected.0, connected.1, originator.0, originator.1);
            (channel, reply, opened.await)
        }
        Incoming::Streamlocal { channel, reply, path } => {
            (channel, reply, client.channel_open_forwarded_streamlocal(path).await)
        }
        Incoming::Agent { channel, reply } => (channel, reply, client.channel_open_agent().await),
        Incoming::X11 { channel, reply, originator } => {
            (channel, reply, client.channel_open_x11(originator.0, originator.1).await)
        }
    };
    let Some(client_channel) = opened.ok().and_then(|opened| own_end(visit, opened)) else {
        reply.reject(ChannelOpenFailure::ConnectFailed).await;
        return failed(visit, permit, "the client did not take the connection").await;
    };
    reply.accept().await;
    carry(visit, &client_channel, permit, cleared, channel).await
}

/// The client's end of a channel that the gateway opened: what it sends is in the inbox that was made when the client
/// said yes.
fn own_end(visit: &Visit, opened: Channel<ClientMsg>) -> Option<ClientChannel> {
    let id = opened.id();
    let (_, write) = opened.split();
    visit.inboxes.of(id).map(|inbox| ClientChannel::new(id, write, inbox, visit.inboxes.clone()))
}

/// Carries bytes both ways until both sides have finished, or one is gone.
async fn carry(
    visit: &Visit,
    channel: &ClientChannel,
    permit: Permit,
    cleared: Cleared,
    target: Channel<TargetMsg>,
) -> Result<(), NotRecorded> {
    let (read, write) = target.split();
    let (mut read, write) = (Reading::new(read), Guarded::new(write));
    let (mut sent, mut received) = (Keep::count(), Keep::count());
    let thirst = Thirst::default();
    let whole = tokio::select! {
        () = to_target(channel, &write, &cleared, &mut sent, &thirst) => false,
        whole = to_client(channel, Outflow::new(&mut read, &visit.held), &mut received, &thirst) => whole,
        () = left(channel) => false,
        () = visit.until_ended() => false,
    };
    // Errors mean that a side is gone already.
    let _ = write.forward(&cleared).close().await;
    let why = if whole { None } else { Some("one side went away") };
    let record = OutcomeRecord {
        executed: Some(true),
        bytes_in: sent.bytes(),
        bytes_out: received.bytes(),
        message: why,
        ..outcome(Status::Ok)
    };
    visit.observe(permit, record).await?;
    let _ = channel.write.close().await;
    Ok(())
}

/// Ends when the client has closed the channel.
async fn to_target(
    channel: &ClientChannel,
    write: &Guarded<ChannelWriteHalf<TargetMsg>>,
    cleared: &Cleared,
    sent: &mut Keep,
    thirst: &Thirst,
) {
    loop {
        let went = match channel.inbox.next().await {
            Event::Data(data) => {
                sent.take(&data);
                thirst.watch(write.forward(cleared).data_bytes(data)).await
            }
            Event::Eof => write.forward(cleared).eof().await,
            Event::Signal(_) | Event::Resize(_) => Ok(()),
            Event::Gone => return,
        };
        if went.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Ends when the target has closed the channel; `false` if its connection broke.
async fn to_client(
    channel: &ClientChannel,
    mut from: Outflow<'_>,
    received: &mut Keep,
    thirst: &Thirst,
) -> bool {
    loop {
        match from.next().await {
            Some(ChannelMsg::Data { data }) => {
                received.take(&data);
                // A client that is gone is noticed by the other half.
                let _ = from.meanwhile(thirst, channel.write.data_bytes(data)).await;
            }
            Some(ChannelMsg::Eof) => {
                let _ = channel.write.eof().await;
            }
            Some(ChannelMsg::Close) => return true,
            None => return false,
            Some(_) => {}
        }
    }
}

async fn failed(visit: &Visit, permit: Permit, why: &str) -> Result<(), NotRecorded> {
    let record = OutcomeRecord { executed: Some(false), message: Some(why), ..outcome(Status::Error) };
    visit.observe(permit, record).await.map(drop)
}

async fn done(visit: &Visit, permit: Permit, message: Option<&str>) -> Result<(), NotRecorded> {
    let record = OutcomeRecord { executed: Some(true), message, ..outcome(Status::Ok) };
    visit.observe(permit, record).await.map(drop)
}
