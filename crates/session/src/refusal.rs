//! Why a command does not run, in the words that its client reads. Many drivers show the message alone, so it has the
//! reason and the next step; the hint has the rest.

use std::time::Duration;

use policy::Words;
use vocabulary::{Name, ReviewId};

use crate::budget::Exceeded;
use crate::desk::ReviewSettings;
use crate::hold::Notice;

/// What sort of refusal it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// Policy forbids it, or a reviewer said no.
    Denied,
    /// Nobody answered its review in time. The identical command may be sent again once it is approved.
    Expired,
    /// The budget is used up.
    OverBudget,
    /// The client called it off while it was held.
    Cancelled,
}

/// Why a command does not run. It is recorded already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What sort of refusal it is.
    pub kind: RefusalKind,
    /// Why, and what to do next.
    pub message: String,
    /// Who can change that, and that there is no other route.
    pub hint: String,
    /// The review, if there is or was one.
    pub review: Option<ReviewId>,
    /// When it makes sense to come back, if that is known.
    pub retry_after: Option<Duration>,
}

/// Said of every refusal: whoever looks for another way should know that there is none.
const NO_OTHER_ROUTE: &str = "There is no other route to this target.";

impl Refusal {
    fn new(kind: RefusalKind, message: String, hint: String) -> Self {
        Self { kind, message, hint, review: None, retry_after: None }
    }

    /// Policy forbids it.
    pub(crate) fn forbidden(words: &Words) -> Self {
        let next = or(&words.advice, "it can't be approved as it is");
        let message = format!("refused by policy: {}; {next}", or(&words.reason, "no policy permits it"));
        let who = or(
            &words.approvers,
            "Nobody can approve it; whoever administers the gateway can change the policy",
        );
        Self::new(RefusalKind::Denied, message, format!("{}. {NO_OTHER_ROUTE}", stop(who)))
    }

    /// An obligation can't be kept.
    pub(crate) fn unmet(obligation: &str, policies: &[String]) -> Self {
        let message = format!(
            "refused by policy: {} wants {obligation} for this command, which can't be kept for it; send it in another form",
            named(policies)
        );
        let hint = format!("See docs/guides/reviews.md for what each obligation needs. {NO_OTHER_ROUTE}");
        Self::new(RefusalKind::Denied, message, hint)
    }

    /// The budget is used up.
    pub(crate) fn over_budget(exceeded: &Exceeded, policies: &[String]) -> Self {
        let (what, policies) = (&exceeded.what, named(policies));
        let message = match exceeded.retry_after {
            Some(wait) => {
                let wait = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                format!(
                    "refused by policy: the budget of {what} by {policies} is used up; come back in {wait} s"
                )
            }
            None => format!(
                "refused by policy: this one message has more than the budget of {what} by {policies}; send its commands in several"
            ),
        };
        let hint = format!(
            "The budget is per principal and target, however many sessions there are. {NO_OTHER_ROUTE}"
        );
        let retry_after = exceeded.retry_after;
        Self { retry_after, ..Self::new(RefusalKind::OverBudget, message, hint) }
    }

    /// It would need a review, but reviewers could not see all of it, or too many wait already.
    pub(crate) fn not_reviewable(words: &Words, why: &str) -> Self {
        let message = format!(
            "refused by policy: {}; it would need a review, but {why}",
            or(&words.reason, "the policy asks for a review")
        );
        Self::new(RefusalKind::Denied, message, NO_OTHER_ROUTE.to_owned())
    }

    /// A reviewer said no.
    pub(crate) fn denied(review: ReviewId, by: &Name, note: Option<&str>) -> Self {
        let why = note.map_or_else(String::new, |note| format!(": {note}"));
        let message =
            format!("review {review} was denied by {by}{why}; do not send the command again as it is");
        let hint = format!("Talk to {by}, or find another way to do it. {NO_OTHER_ROUTE}");
        Self { review: Some(review), ..Self::new(RefusalKind::Denied, message, hint) }
    }

    /// The grant came to nothing.
    pub(crate) fn grant_lost(review: ReviewId, why: &str) -> Self {
        let message = format!("review {review} is {why}; send the command again to ask anew");
        Self { review: Some(review), ..Self::new(RefusalKind::Denied, message, NO_OTHER_ROUTE.to_owned()) }
    }

    /// Nobody answered while it was held.
    pub(crate) fn expired(
        review: ReviewId,
        held: Duration,
        missing: &str,
        settings: &ReviewSettings,
    ) -> Self {
        let open = settings.pace.open_for.as_secs() / 60;
        let grant = settings.pace.grant_for.as_secs() / 60;
        let message = format!(
            "held for {} s, and review {review} has no answer yet{}: the command was not run; run the identical command again once approved",
            held.as_secs(),
            place(review, settings),
        );
        let hint = format!(
            "{missing} The review is open for {open} minutes; an approval fits the identical command and parameters of the same \
             principal, once, within {grant} minutes. {NO_OTHER_ROUTE}"
        );
        Self { review: Some(review), ..Self::new(RefusalKind::Expired, message, hint) }
    }

    /// The client called it off.
    pub(crate) fn cancelled(review: ReviewId) -> Self {
        let message = "canceling statement due to user request".to_owned();
        let hint = format!("It was held for review {review}, which is withdrawn.");
        Self { review: Some(review), ..Self::new(RefusalKind::Cancelled, message, hint) }
    }
}

impl Notice {
    /// The command waits.
    pub(crate) fn held(
        review: ReviewId,
        words: &Words,
        missing: &str,
        (held, short): (Duration, bool),
        settings: &ReviewSettings,
    ) -> Self {
        let message = format!(
            "held for review {review}{}: {}; waiting up to {} s for an answer{}",
            place(review, settings),
            or(&words.reason, "the policy asks for a review"),
            held.as_secs().max(1),
            if short { ", short because this session's transaction keeps locks" } else { "" }
        );
        let advice =
            if words.advice.is_empty() { String::new() } else { format!(" {}", stop(&words.advice) + ".") };
        Self { message, hint: format!("{missing} To approve: trailgate review approve {review}.{advice}") }
    }
}

/// Who is still missing, as a sentence.
pub(crate) fn missing(groups: &[(Name, usize)]) -> String {
    let each = |(group, count): &(Name, usize)| match count {
        1 => format!("somebody of `{group}`"),
        count => format!("{count} people of `{group}`"),
    };
    let who: Vec<String> = groups.iter().map(each).collect();
    format!("It needs the approval of {}.", who.join(" and "))
}

/// ` at URL`, where there is a page to answer.
fn place(review: ReviewId, settings: &ReviewSettings) -> String {
    settings.address.as_ref().map_or_else(String::new, |address| format!(" at {address}/reviews/{review}"))
}

fn named(policies: &[String]) -> String {
    match policies {
        [] => "the policy".to_owned(),
        [one] => format!("policy `{one}`"),
        many => {
            format!("policies {}", many.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn stop(text: &str) -> String {
    text.trim_end_matches('.').to_owned()
}
