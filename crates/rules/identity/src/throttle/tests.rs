use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp(1_795_424_400_000_000);

fn limits() -> Limits {
    let rate = |burst| Rate { burst, every: Duration::from_secs(2) };
    Limits { address: rate(3), principal: rate(5), pair: rate(4), entries: 8 }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn later(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000_000)
}

fn wait(throttle: &Throttle, address: IpAddr, name: &str, now: Timestamp) -> u64 {
    match throttle.check(address, name, now) {
        Ok(()) => 0,
        Err(Rejected::Throttled(throttled)) => throttled.retry_after.as_secs(),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_burst_passes_and_then_one_at_a_time() {
    let mut throttle = Throttle::new(limits());
    for name in ["a", "b", "c"] {
        assert_eq!(wait(&throttle, address(1), name, NOW), 0);
        throttle.failed(address(1), name, NOW);
    }
    assert_eq!(wait(&throttle, address(1), "d", NOW), 2);
    assert_eq!(wait(&throttle, address(1), "not a name", NOW), 2);
    assert_eq!(wait(&throttle, address(2), "d", NOW), 0, "others are not held up");
    assert_eq!(wait(&throttle, address(1), "d", later(2)), 0);
    assert_eq!(throttle.failed(address(1), "d", later(2)), Duration::from_secs(2));
    assert_eq!(wait(&throttle, address(1), "d", later(2)), 2);
}

#[test]
fn one_name_from_many_addresses_is_slowed_down() {
    let mut throttle = Throttle::new(limits());
    for last in 1..=5 {
        throttle.failed(address(last), "alice", NOW);
    }
    assert_eq!(wait(&throttle, address(9), "alice", NOW), 2);
    assert_eq!(wait(&throttle, address(9), "bob", NOW), 0);
}

#[test]
fn whoever_has_logged_in_before_cannot_be_locked_out_by_others() {
    let mut throttle = Throttle::new(limits());
    throttle.succeeded(address(1), "alice");
    for last in 1..=9 {
        for name in ["alice", "bob"] {
            throttle.failed(if last == 1 { address(2) } else { address(last) }, name, NOW);
        }
    }
    for _ in 0..9 {
        throttle.failed(address(1), "mallory", NOW);
    }
    assert!(wait(&throttle, address(1), "mallory", NOW) > 0);
    assert!(wait(&throttle, address(3), "alice", NOW) > 0);
    assert_eq!(wait(&throttle, address(1), "alice", NOW), 0);
}

#[test]
fn a_known_pair_answers_to_its_own_counter_and_success_clears_it() {
    let mut throttle = Throttle::new(limits());
    throttle.succeeded(address(1), "alice");
    for _ in 0..4 {
        assert_eq!(wait(&throttle, address(1), "alice", NOW), 0);
        throttle.failed(address(1), "alice", NOW);
    }
    assert_eq!(wait(&throttle, address(1), "alice", NOW), 2);
    throttle.succeeded(address(1), "alice");
    assert_eq!(wait(&throttle, address(1), "alice", NOW), 0);
}

#[test]
fn a_success_does_not_forgive_the_address() {
    let mut throttle = Throttle::new(limits());
    for _ in 0..3 {
        throttle.failed(address(1), "alice", NOW);
    }
    throttle.succeeded(address(1), "mallory");
    assert!(wait(&throttle, address(1), "alice", NOW) > 0);
}

#[test]
fn ipv6_counts_by_64_and_mapped_ipv4_as_ipv4() {
    let mut throttle = Throttle::new(limits());
    for host in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"] {
        throttle.failed(host.parse().unwrap(), "x", NOW);
    }
    assert!(wait(&throttle, "2001:db8::4".parse().unwrap(), "y", NOW) > 0);
    assert_eq!(wait(&throttle, "2001:db8:0:1::4".parse().unwrap(), "y", NOW), 0);

    for _ in 0..3 {
        throttle.failed("::ffff:10.0.0.7".parse().unwrap(), "z", NOW);
    }
    assert!(wait(&throttle, address(7), "y", NOW) > 0);
}

#[test]
fn a_flood_of_addresses_frees_nobody() {
    let mut throttle = Throttle::new(limits());
    for _ in 0..6 {
        throttle.failed(address(1), "not a name", NOW);
    }
    let before = wait(&throttle, address(1), "alice", NOW);
    assert!(before > 0);
    for host in 0..10_000u32 {
        throttle.failed(IpAddr::from((0x0b00_0000 + host).to_be_bytes()), "not a name", NOW);
    }
    assert_eq!(wait(&throttle, address(1), "alice", NOW), before);
    assert!(throttle.addresses.by_key.len() <= limits().entries);
    assert_eq!(throttle.addresses.by_key.len(), throttle.addresses.by_number.len());
}

#[test]
fn nobody_waits_longer_than_the_longest_wait() {
    let mut throttle = Throttle::new(limits());
    for _ in 0..10_000 {
        throttle.failed(address(1), "alice", NOW);
    }
    assert_eq!(wait(&throttle, address(1), "alice", NOW), MAX_WAIT.as_secs());
    assert_eq!(wait(&throttle, address(1), "alice", later(MAX_WAIT.as_secs() + 10)), 0);
}

#[test]
fn a_clock_set_back_locks_nobody_out() {
    let mut throttle = Throttle::new(limits());
    for _ in 0..9 {
        throttle.failed(address(1), "alice", later(86_400));
    }
    assert_eq!(wait(&throttle, address(1), "alice", NOW), 0);
}

proptest! {
    #[test]
    fn memory_stays_bounded(steps: Vec<(u8, u8, u8, u16)>) {
        let mut throttle = Throttle::new(limits());
        for (kind, host, name, second) in steps {
            let name = format!("n{}", name % 32);
            match kind % 3 {
                0 => throttle.succeeded(address(host), &name),
                _ => drop(throttle.failed(address(host), &name, later(second.into()))),
            }
            let _ = throttle.check(address(host), &name, later(second.into()));
            for len in [throttle.addresses.by_key.len(), throttle.known.by_key.len(), throttle.pairs.by_key.len()] {
                prop_assert!(len <= limits().entries);
            }
            prop_assert_eq!(throttle.pairs.by_key.len(), throttle.pairs.by_number.len());
            prop_assert_eq!(throttle.known.by_key.len(), throttle.known.by_number.len());
        }
    }
}
