"""A cochlea: from sound to the spikes of bushy cells, as the converter of SHD and SSC makes them."""
