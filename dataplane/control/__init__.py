"""What a running firewall can be asked and told (`service`), and how it comes there (`unix`)."""
