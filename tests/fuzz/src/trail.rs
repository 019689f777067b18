//! What the trail reads back from the journal and the ledger.

use trail::leaf::Leaf;
use trail::record::{FactsRecord, ParamsBuf, Record, decode_decision, encode_decision, reviewed};
use trail::{Params, RecordError};

/// One journal frame: what is read is written back, and reads the same.
pub fn record(data: &[u8]) {
    let Ok(record) = Record::decode(data) else { return };
    let mut out = Vec::new();
    record.encode_into(&mut out).expect("what was read can be written");
    assert_eq!(Record::decode(&out), Ok(record.clone()));
    // There is a shortest form, and it is the one that is written.
    assert!(out.len() <= data.len());
    if let Record::Intent(intent) = record {
        let facts: Result<FactsRecord, RecordError> = FactsRecord::decode(intent.facts);
        if let Ok(facts) = facts {
            assert_eq!(FactsRecord::decode(&facts.encode()), Ok(facts));
        }
        if let Ok((decision, review)) = decode_decision(intent.decision) {
            let encoded = encode_decision(&decision);
            let encoded = review.map_or(encoded.clone(), |review| reviewed(&encoded, review));
            assert_eq!(decode_decision(&encoded), Ok((decision, review)));
        }
        params(intent.params);
    }
}

/// A leaf: there is one form only, so that what is read is written back byte by byte.
pub fn leaf(data: &[u8]) {
    let Ok(leaf) = Leaf::decode(data) else { return };
    let mut out = Vec::new();
    leaf.encode(&mut out);
    assert_eq!(out, data);
    assert!(leaf.ended_at() >= leaf.at);
}

/// Parameters of a command: what was read is a beginning of the bytes, and all of them if they are whole.
pub fn params(data: &[u8]) {
    let mut params = Params::new(data);
    let mut again = ParamsBuf::new();
    for value in params.by_ref() {
        match value {
            None => again.push_null(),
            Some(value) => assert!(again.push(value)),
        }
    }
    assert!(data.starts_with(again.as_bytes()));
    assert_eq!(params.is_whole(), again.as_bytes().len() == data.len());
}
