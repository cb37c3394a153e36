# Without root. Boxes without root are not built: it is said at once, with the way out, and nothing is started.
. /tests/claims
refuse 'the doctor is not green' volary doctor
says 'the doctor says what to do' 'run it with sudo' volary doctor
says 'exec ends at once and says the same' 'run it with sudo' volary --home /home/tester/volary exec -- true
refuse 'nothing was made' test -e /home/tester/volary/server
