//! Large arguments, which are received by themselves.

use asynchat::Result;

use crate::scene::{Scene, received};
use crate::store::value::Value;

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

#[test]
fn a_reply_with_a_string_that_was_appended_to_contains_no_copy_of_it() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let value = "x".repeat(15_000);
    client.start_reading(usize::MAX);
    scene.ask(&client, &format!("SET p {value}\nSETRANGE g 3999999 x\n"))?;
    client.stop_reading();
    client.send(format!("MGET{}{}\r\n", " p".repeat(6), " g".repeat(3)));
    client.start_reading(200_000);
    scene.network.settle(&scene.event_loop)?;
    let is_shared = {
        let mut data = scene.shared.lock();
        let value = data.keyspace.database(0).find(b"g");
        value.is_some_and(Value::is_shared)
    };
    assert!(is_shared);
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    let reply = received(&client);
    assert_eq!(reply.matches(" $4000000 \0").count(), 3);
    assert!(reply.starts_with("*9 $15000 ") && reply.ends_with("\0x "));
    Ok(())
}

/// The connection waits because many replies are queued, in the middle of a large argument.
#[test]
fn a_large_argument_is_not_lost_when_the_connection_waits_meanwhile() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    client.start_reading(usize::MAX);
    scene.ask(&client, &format!("SET k {}\n", "x".repeat(12_000)))?;
    client.stop_reading();
    let value = "$3\r\nabc\r\n".repeat(12_000);
    let set = format!(
        "*3\r\n$3\r\nSET\r\n$1\r\nv\r\n${}\r\n{value}\r\n",
        value.len()
    );
    let (first, second) = set.as_bytes().split_at(1_000);
    client.send([b"GET k\r\n".repeat(23).as_slice(), first].concat());
    scene.network.settle(&scene.event_loop)?;
    client.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    client.send(second);
    client.send("STRLEN v\r\nPING\r\n");
    scene.network.settle(&scene.event_loop)?;
    let reply = received(&client);
    let expected = format!("+OK :{} +PONG ", value.len());
    assert!(
        reply.ends_with(&expected),
        "{}",
        &reply[reply.len() - 200..]
    );
    Ok(())
}
