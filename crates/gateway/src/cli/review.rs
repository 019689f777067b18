//! `trailgate review …`

use api::types::{AnswerReview, ReviewView};

use super::args::{Answer, Review, Shared};
use super::output::{self, cut, text};
use super::{Failure, terminal};
use crate::client::Client;

pub async fn run(shared: &Shared, client: &Client, command: Review) -> Result<(), Failure> {
    match command {
        Review::List { state } => {
            let filter = state.map_or_else(String::new, |state| format!("?state={state}"));
            list(shared, &client.get::<Vec<ReviewView>>(&format!("/v1/reviews{filter}")).await?)
        }
        Review::Show { id } => show(shared, &client.get(&format!("/v1/reviews/{id}")).await?),
        Review::Approve(answer) => answered(shared, client, answer, "approve").await,
        Review::Deny(answer) => answered(shared, client, answer, "deny").await,
    }
}

async fn answered(shared: &Shared, client: &Client, answer: Answer, how: &str) -> Result<(), Failure> {
    let Answer { id, note } = answer;
    let review: ReviewView = client.post(&format!("/v1/reviews/{id}/{how}"), &AnswerReview { note }).await?;
    if shared.json {
        return output::json(&review);
    }
    output::line(&match review.state.as_str() {
        "denied" => format!("review {id} is denied"),
        "pending" => format!("your approval counts; review {id} still needs {}", missing(&review)),
        _ if review.held => format!("review {id} is granted; the command runs now"),
        _ => format!("review {id} is granted; {} may send the identical command again", review.principal),
    })
}

fn missing(review: &ReviewView) -> String {
    let each = review.missing.iter().map(|(group, count)| format!("{count} of {group}"));
    each.collect::<Vec<_>>().join(", ")
}

fn who(review: &ReviewView) -> String {
    match &review.on_behalf_of {
        Some(person) => format!("{} for {person}", review.principal),
        None => review.principal.to_string(),
    }
}

fn list(shared: &Shared, reviews: &[ReviewView]) -> Result<(), Failure> {
    if shared.json {
        return reviews.iter().try_for_each(output::json);
    }
    if reviews.is_empty() {
        eprintln!("nothing waits for an answer");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = reviews
        .iter()
        .map(|review| {
            let state = if review.held { format!("{}, held", review.state) } else { review.state.clone() };
            vec![
                review.id.to_string(),
                state,
                who(review),
                review.target.to_string(),
                missing(review),
                review.command.clone(),
            ]
        })
        .collect();
    let header = [text("ID"), text("STATE"), text("WHO"), text("TARGET"), text("NEEDS"), cut("COMMAND")];
    output::line(&output::table(&header, &rows, terminal::width()))
}

fn show(shared: &Shared, review: &ReviewView) -> Result<(), Failure> {
    if shared.json {
        return output::json(review);
    }
    let circumstances: Vec<String> =
        review.circumstances.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let votes: Vec<String> = review
        .votes
        .iter()
        .map(|vote| {
            let how = if vote.approve { "approved" } else { "denied" };
            let note = vote.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
            format!("{} {how} at {}{note}", vote.by, vote.at)
        })
        .collect();
    let held = if review.held { ", and the client is waiting" } else { "" };
    output::line(&output::fields(&[
        ("review", review.id.to_string()),
        ("state", format!("{}{held}", review.state)),
        ("who", format!("{} {}", review.principal_kind, who(review))),
        ("from", format!("{} {}", review.client, review.application.as_deref().unwrap_or(""))),
        ("task", review.task.clone().unwrap_or_default()),
        ("target", format!("{} ({})", review.target, review.target_kind)),
        ("as", circumstances.join(", ")),
        ("class", format!("{} ({})", review.class, review.verb)),
        ("objects", review.objects.join(", ")),
        ("why", review.reason.clone()),
        ("policies", review.policies.join(", ")),
        ("needs", missing(review)),
        ("note", if review.note_required { "required".to_owned() } else { String::new() }),
        ("votes", votes.join("; ")),
        ("asked", review.requested_at.to_string()),
        ("open until", review.open_until.to_string()),
        ("page", review.url.clone().unwrap_or_default()),
    ]))?;
    output::line("\ncommand:")?;
    output::line(&terminal::printable(&review.command))?;
    for (place, value) in review.params.iter().enumerate() {
        let shown = value.as_deref().map_or_else(|| "NULL".to_owned(), terminal::printable);
        output::line(&format!("${} = {shown}", place + 1))?;
    }
    Ok(())
}
