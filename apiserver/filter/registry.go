package filter

// Registry lists the filters, outermost first. The order matters: what is
// known about a request must be known before it is used, and nothing may cost
// much before the caller is known and bounded.
func Registry() []Filter {
	return []Filter{
		Info,         // what is asked, audit id, warnings
		Observe,      // metrics and access log
		Recover,      // a panic is a 500
		Timeout,      // a deadline for what is not long-running
		Authenticate, // who asks
		Impersonate,  // as whom
		InFlight,     // not too many at a time
		Authorize,    // may they
	}
}
