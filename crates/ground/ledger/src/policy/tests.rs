use crate::{Ed25519Signer, Signer as _};

use super::*;

fn cosigner(number: u8) -> Ed25519Signer {
    Ed25519Signer::from_seed(&format!("w{number}.example"), &[number; 32]).unwrap().into_cosigner().unwrap()
}

fn policy_of(rest: &str) -> Result<WitnessPolicy, PolicyError> {
    let log = Ed25519Signer::from_seed("log.example", &[99; 32]).unwrap();
    let mut text = format!("# who watches\nlog {} https://log.example/\n\n", log.verifier());
    for number in 1..=6 {
        text.push_str(&format!(
            "witness W{number}\t{} http://127.0.0.1:{number}\n",
            cosigner(number).verifier()
        ));
    }
    WitnessPolicy::parse(format!("{text}{rest}").as_bytes())
}

#[test]
fn groups_of_groups_are_counted() {
    let policy =
        policy_of("group X 2 W1 W2 W3\ngroup Y any W4 W5\ngroup both all X Y\n  quorum both  \n").unwrap();
    assert_eq!(policy.witnesses().len(), 6);
    assert_eq!(policy.witnesses()[1].url.as_deref(), Some("http://127.0.0.1:2"));
    for (cosigned, met) in [
        (vec![], false),
        (vec![1, 2], false),
        (vec![1, 2, 4], true),
        (vec![2, 3, 5], true),
        (vec![1, 4, 5], false),
        (vec![1, 2, 3, 6], false),
    ] {
        let mut note = Note::new("log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n").unwrap();
        cosigned.iter().for_each(|number| note.cosign(&cosigner(*number), 5).unwrap());
        assert_eq!(policy.is_met_by(&note), met, "{cosigned:?}");
        assert_eq!(policy.cosigners(&note).len(), cosigned.len());
    }
    assert!(!policy_of("quorum none\n").unwrap().asks_for_cosignatures());
}

#[test]
fn a_cosignature_over_another_text_does_not_count() {
    let policy = policy_of("quorum W1\n").unwrap();
    let mut other = Note::new("log.example\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n").unwrap();
    other.cosign(&cosigner(1), 5).unwrap();
    let mut note = Note::new("log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n").unwrap();
    note.add(other.signatures()[0].clone());
    assert!(!policy.is_met_by(&note));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (rest, line) in [
        ("", 0),
        ("quorum W7\n", 10),
        ("quorum W1\nquorum W1\n", 11),
        ("group none any W1\nquorum none\n", 10),
        ("group X any\nquorum none\n", 10),
        ("group X 3 W1 W2\nquorum X\n", 10),
        ("group X 0 W1\nquorum X\n", 10),
        ("group X 01 W1\nquorum X\n", 10),
        ("group X any W1 W1\nquorum X\n", 10),
        ("group X any W1\ngroup Y any W1 W2\nquorum X\n", 11),
        ("group W1 any W2\nquorum W1\n", 10),
        ("group X any Y\ngroup Y any W1\nquorum X\n", 10),
        ("witness again w1.example+00000000+BA== \nquorum none\n", 10),
        ("quorum none\r\n", 0),
        ("sign W1\nquorum none\n", 10),
    ] {
        assert_eq!(policy_of(rest).unwrap_err().line, line, "{rest}");
    }
    let log_as_witness =
        format!("witness L {}\nquorum L\n", Ed25519Signer::from_seed("l", &[9; 32]).unwrap().verifier());
    assert!(policy_of(&log_as_witness).unwrap_err().problem.contains("type 04"));
    let twice = format!("witness again {}\nquorum none\n", cosigner(1).verifier());
    assert!(policy_of(&twice).unwrap_err().problem.contains("already"));
}
