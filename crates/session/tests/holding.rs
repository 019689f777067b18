//! Judging against a real trail and a real policy: permits, refusals, holds, grants, budgets.

#![expect(clippy::unwrap_used, reason = "tests say plainly what they expect")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use identity::scram::{Decoy, ScramVerifier};
use identity::{Credential, Principal, Token};
use policy::Policy;
use review::{Ballot, Pace, Reviewer, State};
use session::{
    Command, Context, Gatehouse, Judged, Known, ListenerSettings, Means, OpenSession, PasswordExchange,
    Recorded, RefusalKind, ReviewSettings, Snapshot, Target, Verdict,
};
use tempfile::TempDir;
use vocabulary::{
    Class, ClientInfo, CredentialId, Facts, NodeId, PrincipalId, PrincipalKind, ProvenBy, ReviewId, TargetId,
    TargetKind, Timestamp, Where, Who,
};

const POLICY: &str = r#"
@id("flow") @commands_per_minute("100") permit (principal, action, resource);
@id("ask") @review("dba") forbid (principal, action == Action::"write", resource) when { context.verb == "DELETE" };
@id("never") @advice("ask for an archive") forbid (principal, action == Action::"define", resource);
"#;

struct House {
    house: Arc<Gatehouse>,
    bot: Principal,
    target: Arc<Target>,
    dir: TempDir,
}

fn house() -> House {
    let dir = TempDir::new().unwrap();
    let node = NodeId::from_bytes([1; 16]);
    let keys = Arc::new(trail::NodeKey::new(&[7; 32]).unwrap());
    let (trail, _) =
        trail::Trail::open(dir.path(), trail::Settings::new(node, "test.example/log", keys)).unwrap();
    let house = Gatehouse::new(Arc::new(trail), node, session::Durability::default());
    let settings = ReviewSettings { hold_for: Duration::from_millis(50), ..ReviewSettings::default() };
    house.desk().configure(settings).unwrap();
    let token = Token::mint().unwrap();
    let credential = Credential {
        id: CredentialId::from_bytes([3; 16]),
        scram: ScramVerifier::of_token(&token, [5; 16]),
        token_digest: token.digest(),
        created_at: Timestamp(0),
        expires_at: None,
        revoked_at: None,
    };
    let bot = Principal {
        id: PrincipalId::from_bytes([2; 16]),
        kind: PrincipalKind::Agent,
        name: "bot".parse().unwrap(),
        on_behalf_of: None,
        groups: Vec::new(),
        roles: Vec::new(),
        disabled: false,
        ssh_keys: Vec::new(),
        credentials: vec![credential],
    };
    let target = Arc::new(Target {
        id: TargetId::from_bytes([9; 16]),
        name: "orders".parse().unwrap(),
        kind: TargetKind::Postgres,
        url: "postgres://app@db/orders".to_owned(),
        material: BTreeMap::new(),
        labels: BTreeMap::new(),
        allow: BTreeSet::new(),
    });
    let this = House { house, bot, target, dir };
    this.apply(POLICY);
    this
}

impl House {
    fn apply(&self, policy: &str) {
        self.house.publish(Snapshot {
            principals: HashMap::from([(self.bot.name.clone(), Arc::new(self.bot.clone()))]),
            targets: HashMap::from([(self.target.name.clone(), Arc::clone(&self.target))]),
            policy: Arc::new(Policy::parse(policy).unwrap()),
            revision: 1,
        });
    }

    /// Whether a text stands in the journal, as it lies on the disk.
    fn journal_has(&self, text: &str) -> bool {
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
                {
                    return true;
                }
            }
        }
        false
    }

    fn open(&self) -> OpenSession {
        let listener = Arc::new(ListenerSettings {
            tls: None,
            require_tls: false,
            password: PasswordExchange::Cleartext,
            pre_auth_deadline: Duration::from_secs(1),
            decoy: Decoy::new([4; 32]),
        });
        let client = ClientInfo { addr: "10.0.0.7:5".to_owned(), ..ClientInfo::default() };
        let who = self.bot.who(CredentialId::from_bytes([3; 16]), ProvenBy::ScramSha256);
        let identified = self.house.door(&listener, client).identified(who, &self.bot);
        let place = Where {
            id: self.target.id,
            name: self.target.name.clone(),
            kind: TargetKind::Postgres,
            role: "app".to_owned(),
            database: Some("orders".to_owned()),
            peer: None,
        };
        let opening = identified.target("orders", None).unwrap_or_else(|refused| panic!("{}", refused.1));
        opening.start(place, tokio::io::empty()).unwrap().0
    }

    fn approve(&self, review: ReviewId) {
        self.approve_as(&["dba"], review);
    }

    fn approve_as(&self, groups: &[&str], review: ReviewId) {
        let who = Who {
            id: PrincipalId::from_bytes([8; 16]),
            kind: PrincipalKind::Person,
            name: "bob".parse().unwrap(),
            on_behalf_of: None,
            credential: CredentialId::from_bytes([8; 16]),
            proven_by: ProvenBy::Bearer,
        };
        let groups: Vec<_> = groups.iter().map(|group| group.parse().unwrap()).collect();
        let reviewer = Reviewer { who: &who, groups: &groups, operator: false };
        let ballot = Ballot { approve: true, note: None };
        self.house
            .desk()
            .answer(review, &reviewer, &ballot, |_, _| Ok::<_, std::convert::Infallible>(()))
            .unwrap();
    }
}

fn known(verb: &str, class: Class) -> Known {
    Known::new(Arc::new(Facts::plain(verb, class)))
}

fn judge(session: &mut OpenSession, command: &Command<'_>) -> Judged {
    let mut turn = session.turn();
    let judged = turn.judge(command).unwrap();
    assert!(matches!(turn.record().unwrap(), Recorded::Cleared(_) | Recorded::Waiting(_)));
    judged
}

#[tokio::test]
async fn a_hold_lapses_and_the_identical_command_uses_the_later_grant_once() {
    let house = house();
    let mut session = house.open();
    let delete = known("DELETE", Class::Write);
    let command = Command { params: b"p", ..Command::new(&delete, b"DELETE FROM carts") };
    let Judged::Held(mut hold) = judge(&mut session, &command) else { panic!("it should wait") };
    let review = hold.review();
    assert!(hold.notice().unwrap().message.contains(&review.to_string()));
    assert!(house.house.desk().is_held(review));
    let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
    assert_eq!(verdict, Verdict::Lapsed);
    let mut turn = session.turn();
    let Judged::Refused(refusal) = turn.resume(hold, verdict, &command).unwrap() else { panic!("it lapsed") };
    drop(turn.record().unwrap());
    assert_eq!((refusal.kind, refusal.review), (RefusalKind::Expired, Some(review)));
    assert!(refusal.message.contains("run the identical command again once approved"));
    assert!(!house.house.desk().is_held(review));

    house.approve(review);
    // Anything else than the identical command asks anew.
    let mut other = house.open();
    for different in [
        Command { params: b"q", ..command },
        Command { text: b"DELETE FROM carts ", ..command },
        Command { context: Context { role: Some("owner"), search_path: None }, ..command },
        Command { context: Context { role: None, search_path: Some("evil") }, ..command },
    ] {
        let Judged::Held(hold) = judge(&mut other, &different) else { panic!("it should wait") };
        assert_ne!(hold.review(), review);
    }
    // The identical one goes on, in another session too, without a notice; and only once.
    let Judged::Held(mut hold) = judge(&mut other, &command) else { panic!("it should take the grant") };
    assert_eq!((hold.review(), hold.notice()), (review, None));
    let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
    let mut turn = other.turn();
    assert!(matches!(turn.resume(hold, verdict, &command).unwrap(), Judged::Permit(_)));
    drop(turn.record().unwrap());
    assert!(matches!(house.house.desk().get(review).unwrap().state, State::Used { .. }));
    let Judged::Held(hold) = judge(&mut other, &command) else { panic!("the grant is used") };
    assert_ne!(hold.review(), review);
}

#[tokio::test]
async fn a_grant_counts_only_once_the_store_has_it() {
    let house = house();
    house.house.desk().restore(Vec::new());
    let mut session = house.open();
    let delete = known("DELETE", Class::Write);
    let command = Command::new(&delete, b"DELETE FROM carts");
    for stored in [Ok(()), Err("disk full".to_owned())] {
        let Judged::Held(mut hold) = judge(&mut session, &command) else { panic!("it should wait") };
        house.approve(hold.review());
        let not_yet =
            tokio::time::timeout(Duration::from_millis(20), poll_fn(|cx| hold.poll_verdict(cx))).await;
        assert!(not_yet.is_err(), "{not_yet:?}");
        let used = house.house.desk().unsaved().pop().unwrap().0;
        assert!(matches!(used.state, State::Used { .. }));
        house.house.desk().saved(&used, stored.clone());
        let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
        let mut turn = session.turn();
        let judged = turn.resume(hold, verdict, &command).unwrap();
        drop(turn.record().unwrap());
        assert_eq!(matches!(judged, Judged::Permit(_)), stored.is_ok());
    }
}

#[tokio::test]
async fn whoever_leaves_or_cancels_withdraws() {
    let house = house();
    let mut session = house.open();
    let delete = known("DELETE", Class::Write);
    let command = Command::new(&delete, b"DELETE FROM carts");
    let Judged::Held(mut hold) = judge(&mut session, &command) else { panic!("it should wait") };
    let review = hold.review();
    assert!(session.live().cancel_hold());
    let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
    assert_eq!(verdict, Verdict::Cancelled);
    let mut turn = session.turn();
    let Judged::Refused(refusal) = turn.resume(hold, verdict, &command).unwrap() else { panic!("cancelled") };
    drop(turn.record().unwrap());
    assert_eq!(refusal.kind, RefusalKind::Cancelled);
    assert!(matches!(house.house.desk().get(review).unwrap().state, State::Withdrawn { .. }));
    assert!(!session.live().cancel_hold());

    let Judged::Held(hold) = judge(&mut session, &command) else { panic!("it should wait") };
    let review = hold.review();
    drop(hold);
    assert!(matches!(house.house.desk().get(review).unwrap().state, State::Withdrawn { .. }));
}

#[tokio::test]
async fn a_changed_policy_judges_anew_what_waits() {
    let house = house();
    let mut session = house.open();
    let delete = known("DELETE", Class::Write);
    let command = Command::new(&delete, b"DELETE FROM carts");
    let Judged::Held(mut hold) = judge(&mut session, &command) else { panic!("it should wait") };
    house.apply(r#"@id("all") permit (principal, action, resource);"#);
    let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
    assert_eq!(verdict, Verdict::PolicyChanged);
    let mut turn = session.turn();
    assert!(matches!(turn.resume(hold, verdict, &command).unwrap(), Judged::Permit(_)));
    drop(turn.record().unwrap());
}

#[tokio::test]
async fn what_a_changed_policy_grants_by_votes_already_given_is_in_the_trail() {
    let asks = |group: &str, approvals: u8| {
        format!(
            r#"@id("flow") permit (principal, action, resource);
               @id("ask") @review("{group}") @approvals("{approvals}")
               forbid (principal, action == Action::"write", resource);"#
        )
    };
    let house = house();
    house.apply(&asks("dba", 2));
    let mut session = house.open();
    let delete = known("DELETE", Class::Write);
    let command = Command::new(&delete, b"DELETE FROM carts");
    let Judged::Held(mut hold) = judge(&mut session, &command) else { panic!("it should wait") };
    let review = hold.review();
    house.approve_as(&["dba", "legal"], review);
    house.apply(&asks("legal", 1));
    let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
    assert_eq!(verdict, Verdict::PolicyChanged);
    let mut turn = session.turn();
    let Judged::Held(mut hold) = turn.resume(hold, verdict, &command).unwrap() else { panic!("it is asked") };
    drop(turn.record().unwrap());
    assert_eq!(house.house.desk().get(review).unwrap().state, State::Pending);
    assert!(!house.journal_has("the votes given are enough"));
    let verdict = poll_fn(|cx| hold.poll_verdict(cx)).await;
    assert_eq!(verdict, Verdict::Granted);
    assert!(house.journal_has(&format!(r#""review":"{review}","step":"granted""#)));
    let mut turn = session.turn();
    assert!(matches!(turn.resume(hold, verdict, &command).unwrap(), Judged::Permit(_)));
    drop(turn.record().unwrap());
}

#[tokio::test]
async fn refusals_say_why_and_budgets_when_to_come_back() {
    let house = house();
    let mut session = house.open();
    let create = known("CREATE TABLE", Class::Define);
    let Judged::Refused(refusal) = judge(&mut session, &Command::new(&create, b"CREATE TABLE t ()")) else {
        panic!("it is forbidden")
    };
    assert_eq!((refusal.kind, refusal.review), (RefusalKind::Denied, None));
    assert!(refusal.message.contains("ask for an archive"), "{}", refusal.message);
    assert!(refusal.hint.contains("no other route"));

    let select = known("SELECT", Class::Read);
    let command = Command::new(&select, b"SELECT 1");
    let mut refused = None;
    for _ in 0..120 {
        if let Judged::Refused(refusal) = judge(&mut session, &command) {
            refused = Some(refusal);
            break;
        }
    }
    let refusal = refused.unwrap();
    assert_eq!(refusal.kind, RefusalKind::OverBudget);
    assert!(
        refusal.message.contains("come back in") && refusal.retry_after.unwrap() <= Duration::from_secs(60)
    );
}

#[tokio::test]
async fn an_obligation_that_the_protocol_can_not_keep_refuses() {
    let house = house();
    house.apply(r#"@id("slow") @timeout("5s") permit (principal, action, resource);"#);
    let mut session = house.open();
    let select = known("SELECT", Class::Read);
    let command = Command::new(&select, b"SELECT 1");
    let Judged::Refused(refusal) = judge(&mut session, &command) else { panic!("nobody keeps the time") };
    assert!(refusal.message.contains("a time limit"), "{}", refusal.message);
    let able = Command { means: Means { timeout: true, ..Means::default() }, ..command };
    let Judged::Permit(permit) = judge(&mut session, &able) else { panic!("it can be kept") };
    assert_eq!(permit.obligations().unwrap().timeout_ms, Some(5_000));
}

#[tokio::test]
async fn so_many_sessions_at_once_and_no_more() {
    let house = house();
    house.apply(r#"@id("few") @sessions("2") permit (principal, action, resource);"#);
    let first = house.open();
    let _second = house.open();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| house.open()));
    assert!(refused.is_err());
    drop(first);
    let _third = house.open();
}

#[test]
fn what_people_can_not_read_is_refused_not_held() {
    let house = house();
    let mut session = house.open();
    let delete = known("DELETE", Class::Write);
    let long = "x".repeat(200_000);
    for command in [
        Command::new(&delete, long.as_bytes()),
        Command::new(&delete, b"DELETE \xff"),
        Command { whole: false, ..Command::new(&delete, b"DELETE") },
    ] {
        assert!(matches!(judge(&mut session, &command), Judged::Refused(_)));
    }
    assert_eq!(Pace::default().grant_for, Duration::from_secs(900));
}
