use std::convert::Infallible;

use policy::Requirement;
use review::{Asked, Circumstances};
use vocabulary::{Class, ClientInfo, CredentialId, Name, PrincipalKind, ProvenBy, TargetId, TargetKind, Who};

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn who(text: &str, kind: PrincipalKind) -> Who {
    let mut id = [0; 16];
    id.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    Who {
        id: PrincipalId::from_bytes(id),
        kind,
        name: name(text),
        on_behalf_of: None,
        credential: CredentialId::from_bytes([1; 16]),
        proven_by: ProvenBy::Bearer,
    }
}

fn approvals(approvals: u8) -> Requirement {
    Requirement { groups: vec![name("dba")], approvals, note_required: false, hold_for: None }
}

/// A desk with one review that somebody waits for, in front of a store.
fn desk(requirement: &Requirement) -> (Desk, ReviewId) {
    let bot = who("bot", PrincipalKind::Agent);
    let target = TargetId::from_bytes([9; 16]);
    let asked = Asked {
        session: SessionId::from_bytes([5; 16]),
        fingerprint: Fingerprint::of(bot.id, target, &Circumstances::new(), b"DELETE FROM carts", b""),
        who: bot,
        client: ClientInfo::default(),
        target,
        target_name: name("orders"),
        target_kind: TargetKind::Postgres,
        circumstances: Circumstances::new(),
        text: "DELETE FROM carts".to_owned(),
        params: Vec::new(),
        verb: "DELETE".to_owned(),
        class: Class::Write,
        objects: vec!["public.carts".to_owned()],
    };
    let id = ReviewId::from_bytes([3; 16]);
    let why = ("it deletes".to_owned(), Vec::new());
    let desk = Desk::default();
    desk.restore(Vec::new());
    let review = Review::request(id, asked, why, requirement, Timestamp::now(), Pace::default());
    desk.open(review, Arc::new(Ticket::default()));
    assert_eq!(stored(&desk), ["pending"]);
    (desk, id)
}

/// What a store would be given now.
fn stored(desk: &Desk) -> Vec<&'static str> {
    desk.unsaved().iter().map(|(review, _)| review.state.as_str()).collect()
}

/// Somebody approves, and meanwhile something else happens. What came of it, and what was recorded.
fn approve(
    desk: &Desk,
    id: ReviewId,
    by: &str,
    mut meanwhile: impl FnMut(usize),
) -> (Result<Step, Objection>, Vec<Step>) {
    let (by, groups) = (who(by, PrincipalKind::Person), [name("dba")]);
    let reviewer = Reviewer { who: &by, groups: &groups, operator: false };
    let mut recorded = Vec::new();
    let answered = desk.answer(id, &reviewer, &Ballot { approve: true, note: None }, |_, step| {
        meanwhile(recorded.len());
        recorded.push(step);
        Ok::<_, Infallible>(())
    });
    let answered = answered.map(|(_, step)| step).map_err(|error| match error {
        AnswerError::Objection(objection) => objection,
        other => panic!("{other}"),
    });
    (answered, recorded)
}

#[test]
fn an_answer_counts_once_it_is_recorded_and_is_then_to_be_stored() {
    let (desk, id) = desk(&approvals(1));
    let (answered, recorded) = approve(&desk, id, "bob", |_| assert_eq!(stored(&desk), [] as [&str; 0]));
    assert_eq!((answered, recorded), (Ok(Step::Granted), vec![Step::Granted]));
    assert_eq!(stored(&desk), ["granted"]);
}

#[test]
fn who_asked_leaves_while_the_approval_is_recorded_and_nothing_is_granted() {
    let (desk, id) = desk(&approvals(1));
    let mut kept = Vec::new();
    let (answered, recorded) = approve(&desk, id, "bob", |_| {
        desk.withdraw(id, "the session ended");
        // The keeper may be faster than the disk.
        kept = stored(&desk);
    });
    assert_eq!((answered, recorded), (Err(Objection::Over("withdrawn")), vec![Step::Granted]));
    assert_eq!(kept, ["withdrawn"]);
    // Nothing is stored over it, and the grant is none.
    assert_eq!(stored(&desk), [] as [&str; 0]);
    let review = desk.get(id).unwrap();
    assert_eq!((review.state.as_str(), review.votes.len()), ("withdrawn", 0));
    assert!(desk.take(id, review.asked.fingerprint, review.asked.session).is_err());
}

#[test]
fn a_policy_that_changes_while_an_answer_is_recorded_has_it_recorded_as_what_it_is() {
    for (before, after, steps) in
        [(1, 2, [Step::Granted, Step::Counted]), (2, 1, [Step::Counted, Step::Granted])]
    {
        let (desk, id) = desk(&approvals(before));
        let (answered, recorded) = approve(&desk, id, "bob", |round| {
            if round == 0 {
                desk.require(id, &approvals(after));
            }
        });
        assert_eq!((answered, recorded), (Ok(steps[1]), steps.to_vec()));
    }
}

#[test]
fn votes_that_a_changed_policy_is_content_with_are_granted_only_when_told() {
    let (desk, id) = desk(&approvals(2));
    assert_eq!(approve(&desk, id, "bob", |_| ()).0, Ok(Step::Counted));
    desk.require(id, &approvals(1));
    assert_eq!(stored(&desk), ["pending"]);
    desk.grant(id);
    assert_eq!(stored(&desk), ["granted"]);
}
