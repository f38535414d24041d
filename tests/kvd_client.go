// What the README of go-redis does, with the example `kvd`: go run tests/kvd_client.go PORT
// Debian has version 5 of it: the package golang-gopkg-redis.v5-dev, with GO111MODULE=off and
// GOPATH=/usr/share/gocode.
package main

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"sync"
	"time"

	"gopkg.in/redis.v5"
)

func main() {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[1], PoolSize: 8})
	equal(client.Ping().Val(), "PONG")
	equal(client.FlushDb().Val(), "OK")

	equal(client.Set("key", "value", 0).Err(), nil)
	equal(client.Get("key").Val(), "value")
	equal(client.Get("key2").Err(), redis.Nil)
	equal(client.SetNX("key", "other", 10*time.Second).Val(), false)
	equal(client.TTL("key").Val() < 0, true)

	replies, err := client.Pipelined(func(pipe *redis.Pipeline) error {
		pipe.Incr("counter")
		pipe.Expire("counter", time.Hour)
		return nil
	})
	equal(err, nil)
	equal(len(replies), 2)
	equal(client.Get("counter").Val(), "1")

	countInTransactions(client)
	scan(client)
	messages(client)

	equal(client.ZAdd("z", redis.Z{Score: 1, Member: "a"}, redis.Z{Score: 2.5, Member: "b"}).Val(), int64(2))
	equal(client.ZRangeWithScores("z", 0, -1).Val(), []redis.Z{{Score: 1, Member: "a"}, {Score: 2.5, Member: "b"}})
	equal(client.HMSet("h", map[string]string{"a": "1", "b": "2"}).Val(), "OK")
	equal(client.HGetAll("h").Val(), map[string]string{"a": "1", "b": "2"})

	waiting := make(chan []string)
	go func() { waiting <- client.BLPop(time.Minute, "list").Val() }()
	client.RPush("list", "element")
	equal(<-waiting, []string{"list", "element"})
	equal(client.Close(), nil)
}

// The increment of go-redis's example of WATCH: each goroutine tries again when another one was first.
func countInTransactions(client *redis.Client) {
	increment := func(tx *redis.Tx) error {
		n, err := tx.Get("watched").Int64()
		if err != nil && err != redis.Nil {
			return err
		}
		_, err = tx.Pipelined(func(pipe *redis.Pipeline) error {
			pipe.Set("watched", strconv.FormatInt(n+1, 10), 0)
			return nil
		})
		return err
	}
	var group sync.WaitGroup
	for i := 0; i < 50; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				err := client.Watch(increment, "watched")
				if err == nil {
					return
				}
				equal(err, redis.TxFailedErr)
			}
		}()
	}
	group.Wait()
	equal(client.Get("watched").Val(), "50")
}

func scan(client *redis.Client) {
	for i := 0; i < 33; i++ {
		client.Set(fmt.Sprintf("scan%d", i), "x", 0)
	}
	found, cursor := map[string]bool{}, uint64(0)
	for {
		keys, next, err := client.Scan(cursor, "scan*", 10).Result()
		equal(err, nil)
		for _, key := range keys {
			found[key] = true
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	equal(len(found), 33)
}

func messages(client *redis.Client) {
	subscriber, err := client.Subscribe("channel")
	equal(err, nil)
	for client.Publish("channel", "hello").Val() == 0 {
	}
	message, err := subscriber.ReceiveMessage()
	equal(err, nil)
	equal(message.Payload, "hello")
	equal(subscriber.Close(), nil)
}

func equal(found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("found %#v, expected %#v", found, expected))
	}
}
