//! Large arguments, which are received by themselves.

use asynchat::Result;

use crate::scene::{Scene, received};

#[test]
fn a_large_value_arrives_in_pieces_and_leaves_as_it_came() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let value: String = (0..300_000)
        .map(|number| char::from(b'a' + (number % 26) as u8))
        .collect();
    client.send(format!(
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n",
        value.len()
    ));
    for piece in value.as_bytes().chunks(70_001) {
        client.send(piece);
        scene.network.settle(&scene.event_loop)?;
    }
    assert_eq!(
        scene.ask(&client, "\nGET k\nPING\n")?,
        format!("+OK $300000 {value} +PONG ")
    );
    Ok(())
}

#[test]
fn small_and_large_arguments_of_a_request_are_the_same_in_pieces_of_any_size() -> Result {
    let large = |letter: &str| format!("$40000\r\n{}\r\n", letter.repeat(40_000));
    let small: String = (0..300).map(|_| "$1\r\nk\r\n$1\r\nv\r\n").collect();
    let input = format!(
        "PING\r\n*607\r\n$4\r\nMSET\r\n{small}$1\r\na\r\n{}$1\r\nb\r\n{}$1\r\nc\r\n{}MGET k a b c\r\n",
        large("x"),
        large("y"),
        large("z")
    );
    for size in [7, 999, 39_999, 40_009, 70_001, input.len()] {
        let scene = Scene::new()?;
        let client = scene.client()?;
        client.start_reading(usize::MAX);
        for piece in input.as_bytes().chunks(size) {
            client.send(piece);
            scene.network.settle(&scene.event_loop)?;
        }
        let expected = format!(
            "+PONG +OK *4 $1 v {}{}{}",
            large("x"),
            large("y"),
            large("z")
        );
        let is_same = received(&client) == expected.replace("\r\n", " ");
        assert!(is_same, "in pieces of {size} bytes");
    }
    Ok(())
}
