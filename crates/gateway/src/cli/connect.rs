//! `trailgate connect AGENT TARGET`

use api::card::ConnectCard;

use super::args::{Connect, Shared};
use super::{Failure, output};
use crate::client::Client;

/// Prints the card.
///
/// # Errors
/// [`Failure`] if the gateway refuses, or does not answer.
pub async fn run(shared: &Shared, client: &Client, connect: Connect) -> Result<(), Failure> {
    let path = format!("/v1/connect?principal={}&target={}", connect.principal, connect.target);
    let mut card: ConnectCard = client.get(&path).await?;
    if let Some(token) = &connect.token {
        card = card.with_token(token);
    }
    if shared.json {
        return output::json(&card);
    }
    output::line(&shown(&card, connect.token.is_some()))
}

/// The card for people.
pub fn shown(card: &ConnectCard, with_token: bool) -> String {
    let mut text =
        format!("# {} reaches {} at {}, port {}\n", card.principal, card.target, card.host, card.port);
    if !with_token {
        let line = format!(
            "# In place of TOKEN goes what `trailgate agent add {}` printed; `rotate` mints a new one.\n",
            card.principal
        );
        text.push_str(&line);
    }
    if let Some(file) = &card.ca_file {
        text.push_str(&format!("# Clients on other machines need a copy of {file}.\n"));
    }
    for snippet in &card.snippets {
        text.push_str(&format!("\n# {}\n{}\n", snippet.title, snippet.text));
    }
    text.truncate(text.trim_end().len());
    text
}
