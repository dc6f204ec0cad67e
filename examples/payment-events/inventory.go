// Inventory takes what was paid for from stock: a subscriber that Headgate pushes to. Arguments: ADDRESS JOURNAL.
//
// A push comes again when its answer got lost. So each payment is a line of the journal, on disk before it is answered;
// the push's webhook-id, the same in every attempt, finds that line again, also after kill -9.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
)

type line struct { // of the journal: pieces that came, or that went for a push, which it is the answer to
	Push    string         `json:"push"`
	Attempt int            `json:"attempt"`
	Pieces  map[string]int `json:"pieces"`
}

var (
	kept  journal[line]
	taken = map[string]line{} // by push
	stock = map[string]int{"lamp": 100_000, "mug": 100_000, "chair": 100_000}
)

func add(added line) {
	for article, pieces := range added.Pieces {
		stock[article] += pieces
	}
	if added.Push != "" {
		taken[added.Push] = added
	}
}

func takePayment(push *http.Request, body []byte) (int, any) {
	var payment struct{ Items, Warehouse map[string]int }
	attempt, _ := strconv.Atoi(push.Header.Get("headgate-attempt"))
	sale := line{push.Header.Get("webhook-id"), attempt, map[string]int{}}
	before, isTaken := taken[sale.Push]
	switch {
	case !isGenuine(os.Getenv("SIGNING_KEYS"), push.Header, body):
		return http.StatusUnauthorized, "not signed with a key of ours"
	case json.Unmarshal(body, &payment) != nil:
		return http.StatusBadRequest, "no payment"
	case isTaken:
		return http.StatusOK, before
	case attempt <= payment.Warehouse["busy"]:
		return http.StatusTooManyRequests, "the warehouse is busy"
	}
	for article, pieces := range payment.Items {
		if stock[article] < pieces {
			return http.StatusUnprocessableEntity, article + " is sold out"
		}
		sale.Pieces[article] = -pieces
	}
	kept.write(sale)
	return http.StatusOK, sale
}

func countStock(request *http.Request, body []byte) (int, any) {
	article := request.PathValue("article")
	pieces, err := strconv.Atoi(string(body))
	if err != nil {
		return http.StatusBadRequest, "a number of pieces is wanted"
	}
	kept.write(line{Pieces: map[string]int{article: pieces - stock[article]}})
	return http.StatusOK, stock
}

func main() {
	var err error
	if kept, err = openJournal(os.Args[2], add); err != nil {
		log.Fatal(err)
	}
	serve("POST /payments", takePayment)
	serve("PUT /stock/{article}", countStock)
	serve("GET /stock", func(*http.Request, []byte) (int, any) { return http.StatusOK, stock })
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
