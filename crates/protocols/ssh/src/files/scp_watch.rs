//! scp's legacy protocol as it passes: each file is judged when its name comes, before its content leaves.

use std::cell::RefCell;

use session::NotRecorded;
use vocabulary::{Class, Status, Usage};

use super::{Carried, Stop, asking};
use crate::visit::{Client, Verdict, Visit};
use crate::wire::scp::{Found, Sender, Way};

#[derive(Default)]
struct State {
    sender: Sender,
    carried: Option<Carried>,
}

/// What is known of one copy.
pub(crate) struct ScpWatch {
    way: Way,
    state: RefCell<State>,
}

impl ScpWatch {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, state: RefCell::default() }
    }

    /// Looks at bytes of the client before they go to the target.
    pub(crate) async fn take_from_client(
        &self,
        visit: &Visit,
        data: &[u8],
    ) -> Result<Result<(), Stop>, NotRecorded> {
        if self.way == Way::Upload { self.sent(visit, data).await } else { Ok(Ok(())) }
    }

    /// Looks at bytes of the target before they go to the client.
    pub(crate) async fn take_from_target(
        &self,
        visit: &Visit,
        data: &[u8],
    ) -> Result<Result<(), Stop>, NotRecorded> {
        if self.way == Way::Download { self.sent(visit, data).await } else { Ok(Ok(())) }
    }

    async fn sent(&self, visit: &Visit, data: &[u8]) -> Result<Result<(), Stop>, NotRecorded> {
        let mut at = 0;
        loop {
            let read = self.state.borrow_mut().sender.read(data, &mut at);
            let found = match read {
                Ok(Some(found)) => found,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(Stop { sentence: format!("{error}, so it is ended"), exit: 1 })),
            };
            match found {
                Found::File { path, .. } => {
                    let upload = self.way == Way::Upload;
                    let (verb, usage) = if upload { ("PUT", Usage::Write) } else { ("GET", Usage::Read) };
                    match visit
                        .judge(&asking(verb, Class::Transfer, usage, path.as_bytes()), &Client::Nobody)
                        .await?
                    {
                        Verdict::Permit(permit, _) => {
                            let carried = Carried::new(permit, path.into(), upload);
                            self.state.borrow_mut().carried = Some(carried);
                        }
                        Verdict::Refused(sentence, exit) => return Ok(Err(Stop { sentence, exit })),
                    }
                }
                Found::Content { from, to } => {
                    if let Some(carried) = &mut self.state.borrow_mut().carried {
                        let offset = carried.content.bytes();
                        carried.content.piece(offset, data.get(from..to).unwrap_or_default());
                    }
                }
                Found::Done { .. } => {
                    let done = self.state.borrow_mut().carried.take();
                    if let Some(done) = done {
                        done.told(visit, Status::Ok, None).await?;
                    }
                }
                Found::Warning { .. } => {}
            }
        }
    }

    /// The channel has ended: a file that is not whole is recorded as such.
    pub(crate) async fn over(self, visit: &Visit) -> Result<(), NotRecorded> {
        match self.state.into_inner().carried {
            Some(left) => {
                left.told(visit, Status::Cancelled, Some("the file was not carried whole".into())).await
            }
            None => Ok(()),
        }
    }
}
