// What one would write in Go: takes messages off a queue with amqp091-go, builds the same document of each, prints it.
// No journal; acknowledged by the half of a prefetch window.
//
//	amqp091 QUEUE COUNT PREFETCH
//
// Prints one JSON object to stderr: messages, and seconds from the first delivery to the last.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"
)

type properties struct {
	ContentType     string     `json:"content_type,omitempty"`
	ContentEncoding string     `json:"content_encoding,omitempty"`
	Headers         amqp.Table `json:"headers,omitempty"`
	DeliveryMode    uint8      `json:"delivery_mode,omitempty"`
	Priority        uint8      `json:"priority,omitempty"`
	CorrelationID   string     `json:"correlation_id,omitempty"`
	ReplyTo         string     `json:"reply_to,omitempty"`
	Expiration      string     `json:"expiration,omitempty"`
	MessageID       string     `json:"message_id,omitempty"`
	Timestamp       time.Time  `json:"timestamp"`
	Type            string     `json:"type,omitempty"`
	UserID          string     `json:"user_id,omitempty"`
	AppID           string     `json:"app_id,omitempty"`
}

type delivery struct {
	ConsumerTag string `json:"consumer_tag"`
	DeliveryTag uint64 `json:"delivery_tag"`
	Redelivered bool   `json:"redelivered"`
	Exchange    string `json:"exchange"`
	RoutingKey  string `json:"routing_key"`
}

type document struct {
	ReceivedAt  string          `json:"received_at"`
	Body        json.RawMessage `json:"body"`
	BodyRaw     string          `json:"body_raw"`
	BodySize    int             `json:"body_size"`
	Properties  properties      `json:"properties"`
	Delivery    delivery        `json:"delivery"`
	Queue       string          `json:"queue"`
	VirtualHost string          `json:"virtual_host"`
	Sequence    int             `json:"sequence"`
	SessionID   string          `json:"session_id"`
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	queue := os.Args[1]
	count, err := strconv.Atoi(os.Args[2])
	must(err)
	prefetch, err := strconv.Atoi(os.Args[3])
	must(err)
	connection, err := amqp.Dial(os.Getenv("SOURCE_AMQP_TEST_URL"))
	must(err)
	channel, err := connection.Channel()
	must(err)
	must(channel.Qos(prefetch, 0, false))
	deliveries, err := channel.Consume(queue, "", false, true, false, false, nil)
	must(err)
	output := bufio.NewWriterSize(os.Stdout, 1<<16)
	encoder := json.NewEncoder(output)
	encoder.SetEscapeHTML(false)
	var start time.Time
	for number := 1; number <= count; number++ {
		message := <-deliveries
		now := time.Now().UTC()
		if number == 1 {
			start = now
		}
		if !utf8.Valid(message.Body) || !json.Valid(message.Body) {
			log.Fatal("a body of the benchmark is JSON")
		}
		must(encoder.Encode(document{
			ReceivedAt: now.Format("2006-01-02T15:04:05.000000Z"), Body: message.Body, BodyRaw: string(message.Body),
			BodySize: len(message.Body),
			Properties: properties{message.ContentType, message.ContentEncoding, message.Headers, message.DeliveryMode,
				message.Priority, message.CorrelationId, message.ReplyTo, message.Expiration, message.MessageId,
				message.Timestamp, message.Type, message.UserId, message.AppId},
			Delivery: delivery{message.ConsumerTag, message.DeliveryTag, message.Redelivered, message.Exchange,
				message.RoutingKey},
			Queue: queue, VirtualHost: "/", Sequence: number, SessionID: "3677a7ff-0201-4708-b56f-49932a757c64",
		}))
		if number%(prefetch/2) == 0 || number == count {
			must(message.Ack(true))
		}
		if len(deliveries) == 0 {
			must(output.Flush())
		}
	}
	must(output.Flush())
	seconds := time.Since(start).Seconds()
	must(connection.Close())
	fmt.Fprintf(os.Stderr, "{\"messages\": %d, \"seconds\": %.6f}\n", count, seconds)
}
