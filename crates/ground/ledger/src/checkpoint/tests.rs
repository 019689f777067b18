use super::*;
use crate::Ed25519Signer;

/// The example of the tlog-checkpoint specification.
const EXAMPLE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
    — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

#[test]
fn the_specifications_example_reads_and_writes_back() {
    let checkpoint = Checkpoint::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), ("example.com/behind-the-sofa", 20_852_163));
    assert_eq!(checkpoint.root().to_string(), "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=");
    assert_eq!(checkpoint.to_string(), EXAMPLE);
}

#[test]
fn anything_but_origin_size_and_root_is_refused() {
    let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
    TreeHead::parse(&format!("a\n1\n{root}\n")).unwrap();
    for text in [
        String::new(),
        "a\n1\n".into(),
        format!("a\n1\n{root}"),
        format!("\n1\n{root}\n"),
        format!("a\n01\n{root}\n"),
        format!("a\n+1\n{root}\n"),
        format!("a\n-1\n{root}\n"),
        format!("a\n\n{root}\n"),
        format!("a\n18446744073709551616\n{root}\n"),
        format!("a\n0\n{root}\n"),
        format!("a\n1\n{root}\nextension\n"),
        format!("a\n1\n{root}\n\n"),
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n".into(),
        "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I\n".into(),
        "a\n1\nAAAA\n".into(),
    ] {
        assert!(TreeHead::parse(&text).is_err(), "{text:?}");
    }
}

#[test]
fn a_checkpoint_verifies_for_its_own_log_only() {
    let signer = Ed25519Signer::generate("example.com/a").unwrap();
    let head = TreeHead { origin: "example.com/a".into(), size: 0, root: Hash::empty() };
    let text = Checkpoint::sign(head.clone(), &signer).unwrap().to_string();
    Checkpoint::verify(text.as_bytes(), "example.com/a", signer.verifier()).unwrap();
    let other = Checkpoint::verify(text.as_bytes(), "example.com/b", signer.verifier());
    assert!(matches!(other, Err(CheckpointError::WrongOrigin { .. })));
    let two_lines = TreeHead { origin: "a\nb".into(), ..head };
    assert!(Checkpoint::sign(two_lines, &signer).is_err());
}
