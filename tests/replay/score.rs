//! A part of `cargo xtask score` that is quick: states on generated scenarios, templates of small descriptions.

use std::path::Path;

use sensor_tests::score::{
    Description, Draw, Knowledge, Order, Tally, descriptions, learned, states::judge, traffic,
};

const SEED: u64 = 1;

fn all() -> Vec<Description> {
    descriptions(&Path::new(env!("CARGO_MANIFEST_DIR")).join("score")).unwrap()
}

#[test]
fn states_are_those_of_the_table() {
    let confusion = judge(&all(), 1_000..1_040).unwrap();
    for share in confusion.shares() {
        // Some operations of a state are few here; `cargo xtask score` asks for more of many.
        let right = share.precision >= 0.95 && share.recall >= 0.95;
        assert!(right, "{share:?} {:?}", confusion.mistakes());
    }
}

#[test]
fn a_document_gives_every_request_its_template() {
    for description in all().iter().filter(|it| it.operations.len() < 130) {
        let requests = traffic(description, 10, Draw::of(SEED));
        let knowledge = Knowledge::Document(description);
        let templates = learned(&requests, Order::Drawn, knowledge).unwrap();
        let tally = Tally::of(description, &requests, &templates);
        let (recall, swallowed) = (tally.recall(), tally.swallowed());
        assert!(recall >= 0.99 && swallowed <= 0.0, "{} {tally:?}", description.name);
    }
}
