package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

var mutex sync.Mutex

// serve answers with the status and the JSON that handle gives, of one request at a time.
func serve(pattern string, handle func(*http.Request, []byte) (int, any)) {
	http.HandleFunc(pattern, func(answer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, 1<<20))
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		mutex.Lock()
		defer mutex.Unlock()
		status, value := handle(request, body)
		answer.Header().Set("Content-Type", "application/json")
		if status == http.StatusTooManyRequests {
			answer.Header().Set("Retry-After", "1")
		}
		answer.WriteHeader(status)
		json.NewEncoder(answer).Encode(value)
	})
}

// isGenuine says whether a push was signed with one of the keys (Standard Webhooks: whsec_..., apart by white space), and
// is not an old one that somebody shows again.
func isGenuine(keys string, header http.Header, body []byte) bool {
	sent, err := strconv.ParseInt(header.Get("webhook-timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(sent, 0)).Abs() > 5*time.Minute {
		return false
	}
	for _, key := range strings.Fields(keys) {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
		if err != nil {
			continue
		}
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.%s", header.Get("webhook-id"), sent, body)
		expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for _, given := range strings.Fields(header.Get("webhook-signature")) {
			if hmac.Equal([]byte(given), expected) {
				return true
			}
		}
	}
	return false
}
