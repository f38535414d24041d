//! Replies that are those of Redis.

use asynchat::Result;

use crate::scene::Scene;

#[test]
fn a_score_of_minus_zero_is_zero_in_every_reply() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "ZADD z INCR -0 a\nZADD z INCR -0 a\nZINCRBY z -0 b\nZSCORE z a\n";
    assert_eq!(scene.ask(&client, script)?, "$1 0 ".repeat(4));
    Ok(())
}

#[test]
fn a_limit_without_a_maximum_is_ignored_in_a_range_of_ranks() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "ZADD z 1 a 2 b 3 c\nZRANGE z 0 1 LIMIT 5 -1\nZRANGESTORE t z 0 1 LIMIT 5 -1\nZRANGE z 0 1 LIMIT 0 1\n";
    assert_eq!(
        scene.ask(&client, script)?,
        ":3 *2 $1 a $1 b :2 -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX "
    );
    Ok(())
}

#[test]
fn an_error_shows_the_subcommand_as_it_was_sent() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    for (request, subcommand, command) in [
        ("pubsub Channels a b", "Channels", "PUBSUB"),
        ("Client UNBLOCK 1 error x", "UNBLOCK", "CLIENT"),
    ] {
        let wanted = format!(
            "-ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try {command} HELP. "
        );
        assert_eq!(scene.ask(&client, &format!("{request}\n"))?, wanted);
    }
    // HELP is a subcommand of each of them.
    let reply = scene.ask(&client, "OBJECT HELP x\nSUBSCRIBE c\nConfig help\n")?;
    assert!(
        reply.starts_with("-ERR wrong number of arguments for 'object|help' command ")
            && reply.contains("-ERR Can't execute 'config|help': only "),
        "{reply}"
    );
    Ok(())
}

#[test]
fn info_about_nothing_is_an_empty_reply() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    assert_eq!(scene.ask(&client, "INFO nosuch\nPING\n")?, "$0  +PONG ");
    Ok(())
}
