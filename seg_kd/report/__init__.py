"""One page that says what runs came to: experiments, networks, pictures."""
