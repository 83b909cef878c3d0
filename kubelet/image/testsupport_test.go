package image

import (
	"fmt"
	"io"
	"log"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func text(u User) string { return fmt.Sprintf("%d:%d%v", u.UID, u.GID, u.Groups) }
