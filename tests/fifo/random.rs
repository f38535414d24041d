//! A random queue against the model.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Act, Answer, Reply, Takes, check};

/// Acts that anybody may do, and that queue no user code.
fn plain_act() -> impl Strategy<Value = Act> {
    let size = prop_oneof![0..20_usize, 0..5000_usize, 4090..9000_usize];
    prop_oneof![
        8 => size.clone().prop_map(Act::PushSlice),
        4 => size.clone().prop_map(Act::PushSlices),
        6 => size.clone().prop_map(Act::PushBytes),
        1 => Just(Act::ShutdownWrite),
        1 => Just(Act::Discard),
        4 => Just(Act::Resume),
        1 => prop_oneof![Just(Act::Close), Just(Act::Seal), Just(Act::CloseSink)],
        1 => Just(Act::AdoptBuffer),
        1 => Just(Act::ReleaseBuffer),
        2 => Just(Act::Trim),
        2 => size.clone().prop_map(Act::Backlog),
        1 => size.prop_map(Act::HighWater),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    let answer = prop_oneof![
        6 => prop_oneof![0..300_usize, 4000..9000_usize].prop_map(Answer::Chunk),
        1 => Just(Answer::Chunk(0)),
        2 => Just(Answer::Pending),
        1 => Just(Answer::WouldBlock),
        1 => Just(Answer::Fails),
    ];
    let acts = prop_oneof![3 => Just(vec![]), 1 => vec(plain_act(), 0..3)];
    (acts, answer).prop_map(|(acts, answer)| Reply { acts, answer })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => plain_act(),
        6 => vec(reply(), 0..6).prop_map(Act::Producer),
        4 => vec(plain_act(), 0..3).prop_map(Act::Hook),
        7 => (1..20_000_usize).prop_map(Act::Pump),
    ]
}

fn takes() -> impl Strategy<Value = Takes> {
    prop_oneof![
        1 => Just(Takes::Nothing),
        1 => prop_oneof![9 => Just(Takes::All), 1 => Just(Takes::Breaks)],
        2 => (1..50_usize).prop_map(Takes::Bytes),
        2 => (1..9000_usize).prop_map(Takes::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_comes_out_is_what_went_in(
        acts in vec(act(), 1..40),
        takes in vec(takes(), 0..6),
        high_water in prop_oneof![Just(usize::MAX), 0..20_000_usize],
    ) {
        check(high_water, takes, &acts);
    }
}
