use policy::Requirement;
use proptest::prelude::*;
use vocabulary::{
    Class, ClientInfo, CredentialId, Name, PrincipalId, PrincipalKind, ProvenBy, ReviewId, SessionId,
    TargetId, TargetKind, Timestamp, Who,
};

use super::*;

const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn who(text: &str, kind: PrincipalKind, on_behalf_of: Option<&str>) -> Who {
    let mut id = [0; 16];
    id.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    Who {
        id: PrincipalId::from_bytes(id),
        kind,
        name: name(text),
        on_behalf_of: on_behalf_of.map(name),
        credential: CredentialId::from_bytes([1; 16]),
        proven_by: ProvenBy::Bearer,
    }
}

fn person(text: &str) -> Who {
    who(text, PrincipalKind::Person, None)
}

fn asked_by(who: Who) -> Asked {
    let circumstances = Circumstances::from([("role".to_owned(), "app".to_owned())]);
    let target = TargetId::from_bytes([9; 16]);
    let text = "DELETE FROM carts".to_owned();
    Asked {
        session: SessionId::from_bytes([5; 16]),
        fingerprint: Fingerprint::of(who.id, target, &circumstances, text.as_bytes(), b""),
        who,
        client: ClientInfo::default(),
        target,
        target_name: name("orders"),
        target_kind: TargetKind::Postgres,
        circumstances,
        text,
        params: vec![],
        verb: "DELETE".into(),
        class: Class::Write,
        objects: vec!["public.carts".into()],
    }
}

fn review(groups: &[&str], approvals: u8) -> Review {
    let requirement = Requirement {
        groups: groups.iter().map(|group| name(group)).collect(),
        approvals,
        note_required: false,
        hold_for: None,
    };
    Review::request(
        ReviewId::from_bytes([3; 16]),
        asked_by(who("bot", PrincipalKind::Agent, Some("alice"))),
        ("it deletes".into(), vec!["deletes".into()]),
        &requirement,
        NOW,
        Pace::default(),
    )
}

fn yes() -> Ballot {
    Ballot { approve: true, note: None }
}

fn no() -> Ballot {
    Ballot { approve: false, note: Some("not today".into()) }
}

fn cast(review: &mut Review, by: &Who, groups: &[&str], ballot: Ballot) -> Result<Step, Objection> {
    let groups: Vec<Name> = groups.iter().map(|group| name(group)).collect();
    let reviewer = Reviewer { who: by, groups: &groups, operator: false };
    review.vote(&reviewer, ballot, Timestamp(NOW.0 + 1), Pace::default())
}

#[test]
fn two_of_each_group_have_to_approve() {
    let mut review = review(&["dba", "security"], 2);
    assert_eq!(cast(&mut review, &person("bob"), &["dba"], yes()), Ok(Step::Counted));
    assert_eq!(cast(&mut review, &person("carol"), &["dba", "security"], yes()), Ok(Step::Counted));
    assert_eq!(review.missing(), [(name("security"), 1)]);
    assert_eq!(cast(&mut review, &person("dora"), &["security"], yes()), Ok(Step::Granted));
    assert_eq!(review.approvals().len(), 4);
}

#[test]
fn nobody_approves_their_own_and_agents_approve_nothing() {
    let mut review = review(&["dba"], 1);
    let alice = person("alice");
    assert!(matches!(cast(&mut review, &alice, &["dba"], yes()), Err(Objection::OwnAgent { .. })));
    let bot = who("bot", PrincipalKind::Person, None);
    assert!(matches!(cast(&mut review, &bot, &["dba"], yes()), Err(Objection::Own(_))));
    for kind in [PrincipalKind::Agent, PrincipalKind::Service] {
        let other = who("other", kind, Some("bob"));
        assert!(matches!(cast(&mut review, &other, &["dba"], yes()), Err(Objection::NoPerson(..))));
    }
    assert!(matches!(cast(&mut review, &person("eve"), &["web"], yes()), Err(Objection::OtherGroup { .. })));
    assert!(matches!(cast(&mut review, &person("eve"), &[], no()), Err(Objection::OtherGroup { .. })));
    // Whoever it is done for may stop it.
    assert_eq!(cast(&mut review, &alice, &[], no()), Ok(Step::Denied));
}

#[test]
fn one_person_counts_once_and_one_no_decides() {
    let mut review = review(&["dba"], 2);
    let bob = person("bob");
    assert_eq!(cast(&mut review, &bob, &["dba"], yes()), Ok(Step::Counted));
    assert_eq!(cast(&mut review, &bob, &["dba"], yes()), Err(Objection::Again(name("bob"))));
    assert_eq!(cast(&mut review, &person("carol"), &["dba"], no()), Ok(Step::Denied));
    assert_eq!(cast(&mut review, &person("dora"), &["dba"], yes()), Err(Objection::Over("denied")));
}

#[test]
fn a_note_is_required_where_the_policy_says_so() {
    let mut review = review(&["dba"], 1);
    review.note_required = true;
    let blank = Ballot { approve: true, note: Some("  ".into()) };
    assert_eq!(cast(&mut review, &person("bob"), &["dba"], blank), Err(Objection::NoteRequired));
    let said = Ballot { approve: true, note: Some("ticket 7".into()) };
    assert_eq!(cast(&mut review, &person("bob"), &["dba"], said), Ok(Step::Granted));
}

#[test]
fn a_grant_is_used_once_and_expires() {
    let mut review = review(&["dba"], 1);
    cast(&mut review, &person("bob"), &["dba"], yes()).unwrap();
    let (fits, session) = (review.asked.fingerprint, SessionId::from_bytes([6; 16]));
    let mut late = review.clone();
    let after = Timestamp(NOW.0 + 16 * 60 * 1_000_000);
    assert_eq!(late.take(fits, session, after), Err(Objection::Over("expired")));
    assert!(late.expire(after) && late.state.is_over());
    let other = Fingerprint::of(person("bob").id, review.asked.target, &Circumstances::new(), b"", b"");
    assert!(review.take(other, session, NOW).is_err());
    assert_eq!(review.take(fits, session, NOW), Ok(()));
    assert_eq!(review.take(fits, session, NOW), Err(Objection::Over("used")));
}

#[test]
fn a_changed_policy_keeps_the_votes_that_fit_it() {
    let mut review = review(&["dba"], 2);
    cast(&mut review, &person("bob"), &["dba", "security"], yes()).unwrap();
    let security =
        Requirement { groups: vec![name("security")], approvals: 1, note_required: false, hold_for: None };
    assert!(!review.is_met(NOW) && !review.grant(NOW, Pace::default()));
    review.require(&security);
    // It is granted once that is said, and not before.
    assert!(review.is_met(NOW) && review.state == State::Pending);
    assert!(!review.clone().grant(review.open_until, Pace::default()));
    assert!(review.grant(NOW, Pace::default()) && matches!(review.state, State::Granted { .. }));
    assert!(!review.is_met(NOW) && !review.grant(NOW, Pace::default()));
}

#[test]
fn the_local_administrator_is_one_person_of_every_group() {
    let mut review = review(&["dba", "security"], 2);
    let local = who("local-administrator", PrincipalKind::Person, None);
    let reviewer = Reviewer { who: &local, groups: &[], operator: true };
    assert_eq!(review.vote(&reviewer, yes(), NOW, Pace::default()), Ok(Step::Counted));
    assert_eq!(review.missing().len(), 2);
}

#[test]
fn a_review_survives_json() {
    let mut review = review(&["dba"], 1);
    cast(&mut review, &person("bob"), &["dba"], yes()).unwrap();
    let text = serde_json::to_string(&review).unwrap();
    assert_eq!(serde_json::from_str::<Review>(&text).unwrap(), review);
}

#[derive(Debug, Clone)]
enum Act {
    Vote { by: usize, approve: bool },
    Take { fits: bool },
    Withdraw,
    Wait { seconds: u64 },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..6, prop::bool::weighted(0.8)).prop_map(|(by, approve)| Act::Vote { by, approve }),
        2 => any::<bool>().prop_map(|fits| Act::Take { fits }),
        1 => Just(Act::Withdraw),
        1 => (0u64..2_000).prop_map(|seconds| Act::Wait { seconds }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: a command goes on at most once, only with enough votes of people who may,
    /// within the time; and what is over stays as it is.
    #[test]
    fn no_order_of_events_gives_more_than_one_use(needed in 1u8..4, acts in prop::collection::vec(act(), 0..40)) {
        let people = [person("alice"), person("bob"), person("carol"), person("dora"),
                      who("bot", PrincipalKind::Agent, Some("alice")), person("eve")];
        let mut review = review(&["dba"], needed);
        let fits = review.asked.fingerprint;
        let other = Fingerprint::of(people[1].id, review.asked.target, &Circumstances::new(), b"x", b"");
        let (mut now, mut uses, mut granted_at) = (NOW, 0, None);
        for act in acts {
            let before = review.clone();
            match act {
                Act::Vote { by, approve } => {
                    // Eve is in no group.
                    let groups = if by == 5 { vec![] } else { vec![name("dba")] };
                    let reviewer = Reviewer { who: &people[by], groups: &groups, operator: false };
                    match review.vote(&reviewer, Ballot { approve, note: None }, now, Pace::default()) {
                        Ok(Step::Granted) => granted_at = Some(now),
                        Ok(_) => {}
                        Err(_) => prop_assert_eq!(&review, &before),
                    }
                }
                Act::Take { fits: right } => {
                    if review.take(if right { fits } else { other }, before.asked.session, now).is_ok() {
                        uses += 1;
                        prop_assert!(right);
                        let yes: Vec<_> = review.votes.iter().filter(|vote| vote.approve).collect();
                        prop_assert!(yes.len() >= usize::from(needed));
                        prop_assert!(yes.iter().all(|vote| ["bob", "carol", "dora"].contains(&vote.by.as_str())));
                        prop_assert!(review.votes.iter().all(|vote| vote.approve));
                        prop_assert!(now.micros_since(granted_at.unwrap()) < 15 * 60 * 1_000_000);
                    } else {
                        prop_assert_eq!(&review, &before);
                    }
                }
                Act::Withdraw => { review.withdraw("gone", now); }
                Act::Wait { seconds } => {
                    now = Timestamp(now.0 + seconds * 1_000_000);
                    review.expire(now);
                }
            }
            if before.state.is_over() {
                prop_assert_eq!(&review.state, &before.state);
            }
            prop_assert!(uses <= 1);
        }
    }

    /// Two different commands never share a fingerprint by moving bytes from one part into the next.
    #[test]
    fn a_fingerprint_tells_its_parts_apart(text in "[ab]{0,6}", params in "[ab]{0,6}", cut in 0usize..12) {
        let id = person("bob").id;
        let target = TargetId::from_bytes([9; 16]);
        let whole = format!("{text}{params}");
        let cut = cut.min(whole.len());
        let (left, right) = whole.split_at(cut);
        let none = Circumstances::new();
        let one = Fingerprint::of(id, target, &none, text.as_bytes(), params.as_bytes());
        let other = Fingerprint::of(id, target, &none, left.as_bytes(), right.as_bytes());
        prop_assert_eq!(one == other, (text.as_str(), params.as_str()) == (left, right));
    }
}
