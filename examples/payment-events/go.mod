module headgate.dev/examples/payment-events

go 1.24
